"""Linear answers of channel subsets against the explicit solution; how subsets are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privynet.errors import InputError
from privynet.search.characterisation.subsets import SubsetRegression, check_subset, draw_subset

CHANNELS, PER_CHANNEL, OUTPUTS = 5, 3, 4
Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


def _rows(n: int, seed: int, weight: NDArray[np.float64]) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, CHANNELS * PER_CHANNEL))
    return x, x @ weight + rng.normal(size=(n, OUTPUTS))


def _regression(train: Rows, val: Rows) -> SubsetRegression:
    regression = SubsetRegression(CHANNELS, CHANNELS * PER_CHANNEL, OUTPUTS)
    for prefix, (x, y) in (("", train), ("val_", val)):
        getattr(regression, f"{prefix}gram").copy_(torch.from_numpy(x.T @ x))
        getattr(regression, f"{prefix}cross").copy_(torch.from_numpy(x.T @ y))
    regression.val_squares.copy_(torch.from_numpy(np.square(val[1]).sum(axis=0)))
    return regression


@pytest.mark.parametrize("kept", [[0], [1, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("train_rows", [20, 500])
def test_linear_answer_is_the_best_ridge_on_the_rows_held_out(kept: list[int], train_rows: int) -> None:
    weight = np.random.default_rng(0).normal(size=(CHANNELS * PER_CHANNEL, OUTPUTS))
    train, val = _rows(train_rows, 1, weight), _rows(100, 2, weight)
    subset = _regression(train, val).solve(kept)
    columns = [channel * PER_CHANNEL + place for channel in kept for place in range(PER_CHANNEL)]
    x, v = train[0][:, columns], val[0][:, columns]
    errors, answers = [np.square(val[1]).sum()], [np.zeros((len(columns), OUTPUTS))]
    for relative in np.logspace(-6, -1, 6):
        damping = relative * np.trace(x.T @ x) / len(columns) * np.eye(len(columns))
        answers.append(np.linalg.solve(x.T @ x + damping, x.T @ train[1]))
        errors.append(np.square(val[1] - v @ answers[-1]).sum())
    best = int(np.argmin(errors))
    np.testing.assert_allclose(subset.weight, answers[best].T, rtol=2e-3, atol=2e-4)
    assert subset.rest == pytest.approx(errors[best] / np.square(val[1]).sum(), rel=1e-3)


def test_regressors_that_say_nothing_leave_everything() -> None:
    zero = (np.zeros((10, CHANNELS * PER_CHANNEL)), np.ones((10, OUTPUTS)))
    subset = _regression(zero, zero).solve([0, 2])
    assert subset.rest == 1
    assert not subset.weight.any()


def test_sizes_are_uniform_in_the_logarithm_and_channels_alike() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_subset(rng, 64) for _ in range(4000)]
    sizes = np.array([len(subset) for subset in drawn])
    assert sizes.min() == 1
    assert sizes.max() == 64
    # As many from 4 to 8 as from 8 to 16 and so on, each a sixth.
    shares = np.histogram(np.log2(sizes + 0.5), bins=np.arange(7))[0] / len(sizes)
    np.testing.assert_allclose(shares[2:5], 1 / 6, atol=0.03)
    uses = np.bincount(np.concatenate(drawn), minlength=64)
    assert uses.min() > 0.8 * uses.mean()
    assert all(len(set(subset)) == len(subset) and subset == sorted(subset) for subset in drawn)


@pytest.mark.parametrize("channels", [[], [3, 3], [-1], [5]])
def test_channels_that_are_not_there_are_refused(channels: list[int]) -> None:
    with pytest.raises(InputError):
        check_subset(channels, 5)
