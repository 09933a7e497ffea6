"""The head for all subsets: what it tells apart, what it may not see, that it is reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from privynet.cloud import FeatureSet
from privynet.errors import InputError
from privynet.search.characterisation.amortised_attacker import AmortisedAttacker
from privynet.search.characterisation.amortised_head import AmortisedHead

CLASSES = 4


def _set(n: int, seed: int, side: int = 6) -> FeatureSet:
    """Channel 0 tells two pairs of classes apart, 1 the classes within them, 2 all as a sign; 3 is noise.

    Channel 2 has the class's sign pattern times a random sign: nothing for a linear classifier.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=n)
    features = 0.7 * rng.normal(size=(n, 4, side, side))
    features[:, 0] += np.where(labels // 2, 1.0, -1.0)[:, None, None]
    features[:, 1] += np.where(labels % 2, 1.0, -1.0)[:, None, None]
    random_sign = rng.choice([-1.0, 1.0], size=n)
    features[:, 2] += (labels * random_sign)[:, None, None]
    return FeatureSet((100 * features + 5).astype(np.float16), labels.astype(np.int64))


@pytest.fixture(scope="module")
def test_set() -> FeatureSet:
    return _set(400, 3)


@pytest.fixture(scope="module")
def head() -> AmortisedHead:
    return AmortisedHead.fit(_set(800, 0), _set(200, 1), classes=CLASSES, steps=150, accelerator="cpu")


def test_accuracy_follows_what_is_kept(head: AmortisedHead, test_set: FeatureSet) -> None:
    assert head.score([0, 1], test_set) > 0.97
    assert head.score([0], test_set) == pytest.approx(0.5, abs=0.1)
    assert head.score([3], test_set) == pytest.approx(0.25, abs=0.1)


def test_the_network_sees_what_the_linear_start_does_not(head: AmortisedHead, test_set: FeatureSet) -> None:
    start = AmortisedHead.fit(_set(800, 0), _set(200, 1), classes=CLASSES, steps=1, accelerator="cpu")
    assert start.score([2], test_set) < 0.5
    assert head.score([2], test_set) > 0.8
    assert start.score([0, 1], test_set) > 0.9  # what the linear start does see, it has at once


def test_channels_that_are_not_kept_are_not_seen(head: AmortisedHead, test_set: FeatureSet) -> None:
    other = np.array(test_set.features)
    other[:, [0, 3]] = np.nan
    np.testing.assert_array_equal(head.predict([2, 1], other), head.predict([1, 2], test_set.features))


def test_seed_decides() -> None:
    train, val = _set(100, 0), _set(40, 1)
    first, again, other = (
        AmortisedHead.fit(train, val, classes=CLASSES, steps=15, seed=seed, accelerator="cpu").to_bytes()
        for seed in (0, 0, 1)
    )
    weights = [data[8 + int.from_bytes(data[:8], "little") :] for data in (first, again, other)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_stored_head_answers_alike(head: AmortisedHead, test_set: FeatureSet) -> None:
    again = AmortisedHead.from_bytes(head.to_bytes())
    np.testing.assert_array_equal(
        again.predict([1, 2], test_set.features), head.predict([1, 2], test_set.features)
    )
    assert again.to_bytes() == head.to_bytes()
    with pytest.raises(InputError):
        AmortisedAttacker.from_bytes(head.to_bytes())
    with pytest.raises(InputError):
        AmortisedHead.from_bytes(head.to_bytes()[:-100])
    with pytest.raises(InputError):
        AmortisedHead.from_bytes(head.to_bytes().replace(b'classes\\": 4', b'classes\\": 5'))


@pytest.mark.parametrize("shape", [(3, 1, 1), (1300, 1, 1), (5, 2, 2), (4, 7, 3), (2, 40, 40)])
def test_any_shape(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    data = FeatureSet(rng.normal(size=(12, *shape)).astype(np.float32), np.arange(12) % 3)
    head = AmortisedHead.fit(data, data, classes=3, steps=2, accelerator="cpu")
    assert head.predict(range(0, shape[0], 2), data.features).shape == (12,)


def test_bad_input_is_refused(head: AmortisedHead, test_set: FeatureSet) -> None:
    train, val = _set(40, 0), _set(20, 1)
    with pytest.raises(InputError):
        AmortisedHead.fit(train, val, classes=3, steps=1)
    with pytest.raises(InputError):
        AmortisedHead.fit(train, _set(20, 1, side=4), classes=CLASSES, steps=1)
    with pytest.raises(InputError):
        AmortisedHead.fit(train, val, classes=CLASSES, steps=0)
    with pytest.raises(InputError):
        head.score([], test_set)
    with pytest.raises(InputError):
        head.predict([0], test_set.features[:, :2])
    broken = np.array(train.features)
    broken[3, 1] = np.inf
    with pytest.raises(InputError):
        AmortisedHead.fit(FeatureSet(broken, train.labels), val, classes=CLASSES, steps=1)
