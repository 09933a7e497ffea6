"""Fits a latency model to measured times, and says how far off it is for networks that it has not seen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from .features import FEATURES, features_of

if TYPE_CHECKING:
    from ...encoders import Kernel

CHANNEL_BLOCKS = (1, 4, 8, 16)
"""Runtimes lay tensors out for vectors of so many numbers."""
FOLDS = 10
# From here on an error counts less: a network that the model cannot tell decides nothing.
_DOUBT = 0.08
_ROUNDS = 6
# Few steps too many cost nothing; the solver's own bound gives up a measurement of minutes.
_MOST_STEPS = 10_000
_INTERVAL = (0.05, 0.95)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Coefficients by name, the zero ones left out, and what predictions for networks left out came to.

    ``ratios`` are measured over predicted, one for each network.
    """

    coefficients: dict[str, float]
    ratios: Array

    @property
    def errors(self) -> Array:
        """abs(predicted - measured) / measured"""
        found: Array = np.abs(1 / self.ratios - 1)
        return found

    @property
    def interval(self) -> tuple[float, float]:
        """The 5 % and 95 % quantiles of the ratios, the prediction itself between them."""
        low, high = np.quantile(self.ratios, _INTERVAL)
        return min(1.0, float(low)), max(1.0, float(high))


@dataclass(frozen=True)
class LatencyFit(Fit):
    """Coefficients by feature, and the block of channels that they are for."""

    channel_block: int


Candidate = TypeVar("Candidate", bound=Fit)


def fit_latency(networks: Sequence[Sequence[Kernel]], times_ms: Sequence[float]) -> LatencyFit:
    """Non-negative coefficients that predict the times of networks with these kernels.

    Least squares of the relative error, large errors counting less. The block is the one of
    :data:`CHANNEL_BLOCKS` that predicts networks left out best.
    """
    times = np.asarray(times_ms, dtype=np.float64)
    fits = []
    for block in CHANNEL_BLOCKS:
        work = np.array([list(features_of(kernels, channel_block=block).values()) for kernels in networks])
        predicted = functools.partial(_predicted, work, times)
        coefficients = coefficients_of(FEATURES, solve(work, times))
        fits.append(LatencyFit(coefficients, times / left_out(len(times), predicted), block))
    return best_of(fits)


def best_of(fits: Sequence[Candidate]) -> Candidate:
    """The fit that predicts networks left out best: three of four of its errors are below the others'.

    Its ratios are of networks that had no part in the choice either: those of a fold are of the fit that is
    best in the other folds.
    """
    fold = np.arange(len(fits[0].ratios)) % FOLDS

    def best(counted: NDArray[np.bool_]) -> Candidate:
        return min(fits, key=lambda fit: float(np.quantile(fit.errors[counted], 0.75)))

    ratios = np.empty(len(fold))
    for out in (fold == number for number in range(FOLDS)):
        ratios[out] = best(~out).ratios[out]
    return replace(best(np.ones(len(fold), dtype=bool)), ratios=ratios)


def solve(work: Array, times: Array) -> Array:
    """The coefficients (F,) for work (n, F) and times (n,)."""
    from scipy.optimize import nnls

    unit = work.max(axis=0)  # so that the solver sees columns of one size
    unit[unit == 0] = 1.0
    weight = 1 / times
    for _ in range(_ROUNDS):
        solution, _ = nnls(work / unit * weight[:, None], times * weight, maxiter=_MOST_STEPS)
        errors = np.abs((work / unit) @ solution / times - 1)
        weight = 1 / times / np.sqrt(np.maximum(1.0, errors / _DOUBT))
    coefficients: Array = solution / unit
    return coefficients


def coefficients_of(names: Iterable[str], solution: Array) -> dict[str, float]:
    """Those above zero, by name."""
    return {name: float(value) for name, value in zip(names, solution, strict=True) if value > 0}


def left_out(count: int, predicted: Callable[[NDArray[np.bool_]], Array]) -> Array:
    """What each of ``count`` networks is predicted by a fit that has not seen it.

    ``predicted`` gives the times of the networks in a fold, a mask (count,), from a fit to the others.
    """
    found = np.empty(count)
    for fold in range(FOLDS):
        out = np.arange(count) % FOLDS == fold
        found[out] = predicted(out)
    return np.maximum(found, 1e-9)


def _predicted(work: Array, times: Array, out: NDArray[np.bool_]) -> Array:
    found: Array = work[out] @ solve(work[~out], times[~out])
    return found
