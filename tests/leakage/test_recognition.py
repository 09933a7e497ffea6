from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.data import open_data
from privynet.errors import PrivynetError
from privynet.leakage import Recogniser, mean_image, reidentified, score_images


def test_originals_are_found_and_a_constant_scores_chance() -> None:
    originals = np.random.default_rng(0).random((50, 4, 4, 3))
    assert reidentified(originals, originals).mean() == 1
    constant = np.broadcast_to(originals.mean(0), originals.shape)
    assert reidentified(constant, originals).sum() == pytest.approx(1)
    shuffled = np.roll(originals, 1, axis=0)
    assert reidentified(shuffled, originals).sum() == 0


@given(seed=st.integers(0, 1000), n=st.integers(2, 300), noise=st.floats(0.01, 2))
@settings(max_examples=20, deadline=None)
def test_nearest_neighbours_are_those_of_the_plain_search(seed: int, n: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    originals = rng.random((n, 12))
    rebuilt = originals + noise * rng.normal(size=originals.shape)
    distances = ((rebuilt[:, None] - originals[None]) ** 2).sum(2)
    margin = np.partition(distances, 1, axis=1)[:, 1] - distances.min(1)
    clear = margin > 1e-3
    wanted = (distances.argmin(1) == np.arange(n)).astype(float)
    np.testing.assert_array_equal(reidentified(rebuilt, originals)[clear], wanted[clear])


def test_duplicates_share_the_credit() -> None:
    originals = np.array([[0.0, 0], [0, 0], [5, 5]])
    np.testing.assert_allclose(reidentified(originals, originals), [0.5, 0.5, 1])


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    split = open_data("digits").split("head-train")
    return Recogniser.train(split.images(32), split.labels, classes=10)


def test_recogniser_knows_digits_and_finds_blurred_ones_again(recogniser: Recogniser) -> None:
    test = open_data("digits").split("test", limit=200)
    images = test.images(32)
    accuracy = recogniser.accuracy(images, test.labels)
    assert accuracy.value > 0.9 and accuracy.n == 200
    noisy = images / 255 + 0.1 * np.random.default_rng(0).normal(size=images.shape)
    scores = score_images(noisy, images, mean_image=mean_image(images))
    scores = scores.recognised_by(recogniser, noisy, images, test.labels)
    summary = scores.summary()
    assert summary.classified is not None and summary.classified.value > 0.8
    assert summary.reidentification_features is not None
    assert summary.reidentification_features.value > 0.8
    blind = np.broadcast_to(mean_image(images), images.shape)
    guessed = score_images(blind, images, mean_image=mean_image(images))
    guessed = guessed.recognised_by(recogniser, blind, images, test.labels)
    found = guessed.summary()
    assert found.reidentification_features is not None and found.reidentification_features.value < 0.02
    assert found.classified is not None and found.classified.value < 0.25


def test_features_are_unit_vectors_of_images_alone(recogniser: Recogniser) -> None:
    images = open_data("digits").split("test", limit=20).images(32) / np.float32(255)
    vectors, classes = recogniser.look(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    alone, seen = recogniser.look(images[7:8])
    np.testing.assert_allclose(alone[0], vectors[7], atol=1e-5)
    assert seen[0] == classes[7]


def test_weights_that_were_written_are_read_and_damaged_ones_refused(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    images = open_data("digits").split("test", limit=20).images(32) / np.float32(255)
    recogniser.write(tmp_path / "weights")
    again = Recogniser.read(tmp_path / "weights", images=recogniser.images, classes=10, image_size=32)
    np.testing.assert_array_equal(again.look(images)[0], recogniser.look(images)[0])
    assert again.images == recogniser.images
    data = (tmp_path / "weights").read_bytes()
    for damaged in (data[:-100], b"nothing", b""):
        (tmp_path / "weights").write_bytes(damaged)
        with pytest.raises(PrivynetError, match="damaged"):
            Recogniser.read(tmp_path / "weights", images=1, classes=10, image_size=32)
