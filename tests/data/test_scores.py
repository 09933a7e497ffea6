"""Scores against the slow, obvious computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from privynet.data import Score
from privynet.errors import PrivynetError


def test_interval_of_the_mean_agrees_with_scipy():
    samples = np.random.default_rng(0).gamma(2, size=300)
    expected = stats.bootstrap((samples,), np.mean, method="percentile", n_resamples=5000, rng=1)
    score = Score.mean(samples)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert score.value == pytest.approx(samples.mean())
    assert score.ci95 == pytest.approx(tuple(expected.confidence_interval), abs=0.15 * width)
    assert score.n == 300


def test_interval_of_r2_agrees_with_a_plain_loop():
    generator = np.random.default_rng(0)
    errors, blind = generator.gamma(2, size=200), generator.gamma(5, size=200)
    loop = []
    for _ in range(5000):
        drawn = generator.integers(200, size=200)
        loop.append(1 - errors[drawn].sum() / blind[drawn].sum())
    low, high = np.percentile(loop, (2.5, 97.5))
    score = Score.r2(errors, blind)
    assert score.value == pytest.approx(1 - errors.sum() / blind.sum())
    assert score.ci95 == pytest.approx((low, high), abs=0.15 * (high - low))


def test_interval_covers_the_true_mean_about_95_times_in_100():
    generator = np.random.default_rng(0)
    scores = [Score.mean(generator.random(100), seed) for seed in range(200)]
    covered = sum(score.ci95[0] <= 0.5 <= score.ci95[1] for score in scores)
    assert 180 <= covered <= 199


def test_one_seed_gives_one_score_and_leaves_numpys_generator_alone():
    samples = np.arange(50.0)
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    assert Score.mean(samples, seed=7) == Score.mean(samples, seed=7)
    assert Score.mean(samples, seed=7) != Score.mean(samples, seed=8)
    assert np.random.random() == expected


def test_large_sets_are_resampled_in_blocks():
    samples = np.random.default_rng(0).normal(size=50_000)
    score = Score.mean(samples)
    half_width = 1.96 * samples.std() / np.sqrt(len(samples))
    assert score.ci95 == pytest.approx(
        (score.value - half_width, score.value + half_width), abs=0.15 * half_width
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_interval_lies_within_the_samples(samples):
    score = Score.mean(samples)
    slack = 1e-6 * (1 + max(map(abs, samples)))
    assert min(samples) - slack <= score.ci95[0] <= score.ci95[1] <= max(samples) + slack


def test_attack_as_good_as_the_blind_guess_scores_zero():
    blind = np.random.default_rng(0).random(40)
    score = Score.r2(blind, blind)
    assert (score.value, score.ci95) == (0, (0, 0))


def test_r2_without_anything_to_explain_is_an_error():
    with pytest.raises(PrivynetError, match="r2 is undefined"):
        Score.r2([0, 0], [0, 0])


@pytest.mark.parametrize("samples", [[], [1, np.nan], [1, np.inf], [[1, 2]]])
def test_samples_that_are_no_figures_are_refused(samples):
    with pytest.raises(ValueError, match="finite samples"):
        Score.mean(samples)


def test_document_is_plain_json():
    assert Score(0.5, (0.4, 0.6), 10).document() == {"value": 0.5, "ci95": [0.4, 0.6], "n": 10}
