"""The attribute attack: it learns what there is to learn, and nothing where there is nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from privynet.data import open_data
from privynet.errors import InputError
from privynet.leakage import Pairs
from privynet.leakage.attributes import attack_attribute


def _digits(split, limit, encode):
    """Digits at 16 pixels with what ``encode`` makes of the planes; labelled by parity."""
    part = open_data("digits").split(split, limit=limit)
    images = part.images(16)
    planes = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return Pairs(encode(planes, part.labels), images, part.attribute("parity"))


def _parts(encode):
    splits = (("attack-train", 300), ("attack-val", 60), ("test", 300))
    return [_digits(split, limit, encode) for split, limit in splits]


def _attack(parts, **options):
    return attack_attribute("parity", ("even", "odd"), *parts, **{"max_steps": 200} | options)


def test_features_and_raw_images_tell_the_parity_of_digits():
    result = _attack(_parts(lambda planes, labels: planes[:, :1, ::2, ::2]))
    assert result.features.accuracy.value > 0.85
    assert result.raw_images.accuracy.value > 0.85
    assert 0.4 < result.chance < 0.6


def test_noise_tells_nothing_and_the_raw_images_still_do():
    rng = np.random.default_rng(0)
    result = _attack(_parts(lambda planes, labels: rng.standard_normal((len(planes), 2, 4, 4), np.float32)))
    low, high = result.features.accuracy.ci95
    assert low <= 0.55
    assert high >= 0.45
    assert result.raw_images.accuracy.value > 0.85


def test_unbalanced_attributes_are_scored_in_balance():
    """Features that give the answer away for one value in ten only by its mean; scores against sklearn."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    rng = np.random.default_rng(1)

    def part(n, seed):
        values = (np.arange(n) % 10 == 0).astype(np.int64)
        features = rng.standard_normal((n, 1, 1, 1)) + 1.5 * values[:, None, None, None]
        return Pairs(features.astype(np.float32), np.zeros((n, 16, 16, 3), np.uint8), values)

    parts = [part(n, n) for n in (400, 200, 500)]
    result = attack_attribute("rare", ("no", "yes"), *parts, max_steps=100)
    assert result.chance == 0.9
    # the images are all alike: the best answer is always the frequent value
    assert result.raw_images.accuracy.value == accuracy_score(parts[2].labels, np.zeros(500))
    assert result.raw_images.balanced_accuracy.value == pytest.approx(
        balanced_accuracy_score(parts[2].labels, np.zeros(500))
    )
    assert result.features.balanced_accuracy.value > 0.5
    assert result.features.balanced_accuracy.ci95[1] <= 1


def test_document_holds_the_contract():
    parts = _parts(lambda planes, labels: planes[:, :1, ::4, ::4])
    document = json.loads(json.dumps(_attack(parts, max_steps=50, seed=3).document()))
    assert (document["attribute"], document["classes"]) == ("parity", ["even", "odd"])
    for key in ("accuracy", "balanced_accuracy", "raw_images", "raw_images_balanced"):
        assert set(document[key]) == {"value", "ci95", "n"}
        assert document[key]["n"] == 300
        low, high = document[key]["ci95"]
        assert low <= document[key]["value"] <= high
    frequent = np.bincount(parts[0].labels).argmax()
    assert document["chance"] == np.mean(parts[2].labels == frequent)
    assert document["uniform_chance"] == 0.5
    assert document["fit"]["features"]["pairs"] == 300


def test_same_seed_gives_the_same_answer():
    parts = _parts(lambda planes, labels: planes[:, :1, ::4, ::4])
    first, second = (_attack(parts, max_steps=50, seed=5) for _ in range(2))
    for result in (first, second):
        for predictions in (result.features, result.raw_images):
            del predictions.fit["seconds"]
    assert first == second


def test_values_without_training_pairs_are_never_answered():
    train, val, test = _parts(lambda planes, labels: planes[:, :1, ::4, ::4])
    train, val, test = (replace(pairs, labels=2 * pairs.labels) for pairs in (train, val, test))
    absent = test.labels.copy()
    absent[:30] = 1
    result = attack_attribute(
        "x", ("even", "none", "odd"), train, val, replace(test, labels=absent), max_steps=50
    )
    assert result.features.accuracy.value <= 0.9
    assert result.document()["uniform_chance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, v, e: (replace(t, labels=0 * t.labels), v, e), "all 300 training images are 'even'"),
        (lambda t, v, e: (replace(t, labels=t.labels + 1), v, e), "outside 0 to 1"),
        (lambda t, v, e: (t, v, replace(e, labels=e.labels - 1)), "outside 0 to 1"),
        (lambda t, v, e: (t, replace(v, features=v.features[:, :, :2]), e), r"features \(1, 2, 4\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    parts = change(*_parts(lambda planes, labels: planes[:, :1, ::4, ::4]))
    with pytest.raises(InputError, match=message):
        _attack(parts)
