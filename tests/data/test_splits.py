"""Splits follow the images' content and nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privynet.data import SPLITS, DataSet
from privynet.data.arrays import ArrayImages
from privynet.errors import InputError


def data_set(pixels, *, labels=None, official_test=None):
    images = ArrayImages(pixels)
    return DataSet.build(
        "made",
        images,
        hashes=images.hashes(),
        labels=np.arange(len(pixels)) % 2 if labels is None else labels,
        classes=("a", "b"),
        official_test=official_test,
        reference_size=pixels.shape[1],
    )


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def members(data):
    return {name: set(data.split(name).indices.tolist()) for name in SPLITS}


def test_every_image_is_in_exactly_one_split():
    found = members(data_set(noise(2000)))
    assert sum(map(len, found.values())) == 2000
    assert set().union(*found.values()) == set(range(2000))


@pytest.mark.parametrize("official", [False, True])
def test_shares_are_the_stated_ones(official):
    count = 20_000
    test = np.arange(count) >= count // 2 if official else None
    data = data_set(noise(count), official_test=test)
    rest = count // 2 if official else count * 0.8
    expected = {"head-train": 0.55, "attack-train": 0.25, "attack-val": 0.05, "select": 0.15}
    for name, share in expected.items():
        # Five standard deviations of a binomial count.
        assert abs(len(data.split(name)) - share * rest) < 5 * np.sqrt(rest * share * (1 - share))
    assert abs(len(data.split("test")) - (count - rest)) < (1 if official else 5 * np.sqrt(count * 0.16))


def test_order_of_images_does_not_move_one():
    pixels = noise(500)
    shuffled = np.random.default_rng(1).permutation(500)
    first, second = data_set(pixels), data_set(pixels[shuffled], labels=shuffled % 2)
    for name in SPLITS:
        assert np.array_equal(first.split(name).images(4), second.split(name).images(4))
        assert np.array_equal(first.split(name).labels, second.split(name).labels)
    assert first.digest == second.digest


@given(copies=arrays(np.int64, 40, elements=st.integers(0, 11)))
def test_equal_images_stay_together(copies):
    data = data_set(np.concatenate([noise(12)[copies], noise(400, seed=5)]))
    where = {}
    for name in SPLITS:
        for index in data.split(name).indices:
            if index < 40:
                where.setdefault(copies[index], set()).add(name)
    assert all(len(names) == 1 for names in where.values())


def test_training_image_that_equals_a_test_image_goes_to_test():
    pixels = noise(400)
    pixels[:10] = pixels[300:310]
    found = members(data_set(pixels, official_test=np.arange(400) >= 300))
    assert found["test"] == set(range(10)) | set(range(300, 400))


def test_smaller_limits_give_prefixes():
    data = data_set(noise(1000))
    whole = data.split("select").indices
    for limit in (1, 7, len(whole), len(whole) + 5):
        assert np.array_equal(data.split("select", limit=limit).indices, whole[:limit])


def test_labels_belong_to_their_images():
    pixels = noise(300)
    split = data_set(pixels).split("head-train")
    assert np.array_equal(split.images(4), pixels[split.indices])
    assert np.array_equal(split.labels, split.indices % 2)


def test_batches_are_the_images_in_order():
    split = data_set(noise(300)).split("head-train")
    batches = list(split.batches(9, batch=50))
    assert [len(batch) for batch in batches[:-1]] == [50] * (len(batches) - 1)
    assert np.array_equal(np.concatenate(batches), split.images(9))


@pytest.mark.parametrize("change", ["pixel", "label", "official test"])
def test_digest_changes_with(change):
    pixels, labels, test = noise(50), np.arange(50) % 2, np.zeros(50, bool)
    before = data_set(pixels, labels=labels, official_test=test).digest
    if change == "pixel":
        pixels[3, 0, 0, 0] ^= 1
    elif change == "label":
        labels[3] ^= 1
    else:
        test[3] = True
    assert data_set(pixels, labels=labels, official_test=test).digest != before


def test_unknown_split_is_refused_with_the_allowed_names():
    with pytest.raises(InputError, match=r"unknown split 'train'.*head-train"):
        data_set(noise(50)).split("train")


def test_limit_below_one_is_refused():
    with pytest.raises(InputError, match="limit 0"):
        data_set(noise(50)).split("test", limit=0)


def test_empty_split_is_refused():
    data = data_set(noise(50), official_test=np.ones(50, bool))
    with pytest.raises(InputError, match="split select is empty"):
        data.split("select")


def test_class_that_is_missing_from_head_train_is_refused():
    labels = np.zeros(200, np.int64)
    pixels = noise(200)
    labels[data_set(pixels).split("select").indices[0]] = 1
    with pytest.raises(InputError, match="class 'b' has no image in head-train"):
        data_set(pixels, labels=labels).split("head-train")
