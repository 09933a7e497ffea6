"""Which channels are kept."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.encoders import fisher_scores, new_secret, random_channels, top_channels


def naive_fisher(features: np.ndarray, labels: np.ndarray, channel: int) -> float:
    """Between-class over within-class scatter of one channel's maps, straight from the definition."""
    maps = features[:, channel].reshape(len(features), -1).astype(np.float64)
    overall = maps.mean(0)
    between = within = 0.0
    for label in np.unique(labels):
        members = maps[labels == label]
        between += len(members) * ((members.mean(0) - overall) ** 2).sum()
        within += ((members - members.mean(0)) ** 2).sum()
    return between / within


def test_fisher_scores_are_those_of_the_definition() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 3000)
    features = draw.normal(size=(3000, 5, 3, 2)).astype(np.float32)
    features[:, 2] += labels[:, None, None]
    features[:, 4] *= 100
    scores = fisher_scores(features, labels)
    np.testing.assert_allclose(scores, [naive_fisher(features, labels, c) for c in range(5)], rtol=1e-4)
    assert scores.argmax() == 2


def test_a_constant_channel_scores_nothing_and_is_kept_last() -> None:
    labels = np.arange(100) % 2
    features = np.random.default_rng(1).normal(size=(100, 3, 2, 2)).astype(np.float16)
    features[:, 1] = 7
    scores = fisher_scores(features, labels)
    assert scores[1] == 0
    assert top_channels(scores, 2) == (0, 2)


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 300), st.data())
def test_random_channels_are_distinct_nested_and_depend_on_the_secret_alone(
    secret: bytes, available: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, available))
    smaller = data.draw(st.integers(1, count))
    kept = random_channels(secret, available=available, count=count, purpose="cut")
    assert len(set(kept)) == count and list(kept) == sorted(kept) and set(kept) <= set(range(available))
    assert set(random_channels(secret, available=available, count=smaller, purpose="cut")) <= set(kept)
    assert kept == random_channels(secret, available=available, count=count, purpose="cut")


def test_secrets_and_purposes_give_unrelated_choices() -> None:
    secret, other = new_secret(), new_secret()
    first = random_channels(secret, available=256, count=64, purpose="a")
    for unlike in (
        random_channels(other, available=256, count=64, purpose="a"),
        random_channels(secret, available=256, count=64, purpose="b"),
    ):
        # 16 of 64 are shared by chance; 40 or more would be beyond 7 standard deviations.
        assert len(set(first) & set(unlike)) < 40


def test_each_channel_is_kept_equally_often_over_secrets() -> None:
    counts = np.zeros(16)
    for number in range(2000):
        counts[list(random_channels(number.to_bytes(32, "big"), available=16, count=4, purpose="cut"))] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 0.05
