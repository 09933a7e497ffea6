"""Utility and leakage of any selection of a cut's channels, from its moments: no network is trained.

Both are ridge regressions (Hoerl and Kennard 1970) whose normal equations, for a subset of the channels, are
a sub-matrix of those for all of them; for a mixing of the channels they follow by transforming both sides.
Noise of standard deviation sigma, independent of all else, adds sigma^2 to the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .class_moments import ClassMoments
from .image_moments import ImageMoments

Selection = Sequence[int] | NDArray[Any]
"""Kept channels, or a mixing matrix (D', C): the encoder sends ``matrix @ channels`` at each place."""

CLASS_RIDGES = tuple(float(ridge) for ridge in np.logspace(-4, 0, 9))
IMAGE_RIDGES = tuple(float(ridge) for ridge in np.logspace(-7, 0, 8))
"""Relative to each regressor's mean square; the best one on held-out images is taken."""

_PROBED_OUTPUTS = 256
"""Pixels by which the ridge is chosen, evenly spaced."""
_NOISE_SEED = 0


def utility(
    moments: ClassMoments,
    selection: Selection,
    *,
    noise_std: float = 0.0,
    scored_on: Literal["select", "val"] = "select",
) -> float:
    """The share of images that the ridge classifier on the selection's pooled features answers rightly.

    Ridge regression on the one-hot class (which gives the directions of linear discriminant analysis), the
    largest answer counting. ``noise_std``: of the noise on each value that is sent. ``scored_on``: the images
    of ``select``, or those training images by which the ridge is chosen: what is optimised by its score must
    not see the images that it is judged on. Raises ``ValueError`` for a selection that does not fit.
    """
    pick = _Pick(selection, moments.channels, moments.taps)
    noise = noise_std**2 / moments.pooled_values
    gram, cross = pick.both(moments.gram), pick.rows(moments.cross)
    gram.diagonal().add_(noise)
    drawn = np.random.default_rng(_NOISE_SEED)

    def seen(values: NDArray[np.float32]) -> Tensor:
        """The selection's regressors (n, D' * taps) of the images of ``val`` or ``select``."""
        picked = pick.rows(values).T
        if noise:
            picked = picked + noise**0.5 * torch.from_numpy(drawn.standard_normal(picked.shape))
        return picked

    val = seen(moments.val)
    priors = torch.from_numpy(moments.priors.astype(np.float64))
    targets = torch.from_numpy(np.eye(len(priors))[moments.val_labels]) - priors

    def error(solution: Tensor) -> float:
        return float((val @ solution - targets).square().sum())

    best = _best_ridge(gram, cross, CLASS_RIDGES, error)
    scored, labels = (
        (val, moments.val_labels) if scored_on == "val" else (seen(moments.select), moments.select_labels)
    )
    answers = (scored @ best + priors).argmax(1).numpy()
    return float((answers == labels).mean())


def leakage(moments: ImageMoments, selection: Selection, *, noise_std: float = 0.0) -> float:
    """The r2 that ridge inversion of the selection reaches on the validation pairs.

    1 - squared error / that of the mean image. ``noise_std``: of the noise on each value that is sent. Raises
    ``ValueError`` for a selection that does not fit.
    """
    pick = _Pick(selection, moments.channels, moments.taps)
    gram, cross = pick.both(moments.gram), pick.rows(moments.cross)
    val_gram, val_cross = pick.both(moments.val_gram), pick.rows(moments.val_cross)
    noise = torch.from_numpy(moments.inside.astype(np.float64)) * (noise_std**2 / moments.pooled_values)
    for matrix in (gram, val_gram):
        matrix.diagonal().add_(noise.repeat(len(gram) // moments.taps))
    probed = slice(None, None, -(-cross.shape[1] // _PROBED_OUTPUTS))

    def error(solution: Tensor, part: slice = probed) -> float:
        """||Y - XW||^2 on the validation pairs, less the constant ||Y||^2."""
        return float((solution * (val_gram @ solution - 2 * val_cross[:, part])).sum())

    best = _best_ridge(gram, cross[:, probed], IMAGE_RIDGES, error, cross)
    return -error(best, slice(None)) / moments.val_power


class _Pick:
    """Takes a selection's part of arrays whose regressors are counted channel by channel."""

    def __init__(self, selection: Selection, channels: int, taps: int) -> None:
        chosen = np.asarray(selection)
        self.channels, self.taps = channels, taps
        self.mixing: NDArray[np.float32] | None = None
        if chosen.ndim == 2:
            if chosen.shape[1] != channels or not len(chosen) or not np.isfinite(chosen).all():
                raise ValueError(f"a matrix {chosen.shape} does not mix {channels} channels")
            self.mixing = chosen.astype(np.float32)
            return
        if chosen.ndim != 1 or not chosen.size or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError("a selection is a list of channels or a matrix")
        if chosen.min() < 0 or chosen.max() >= channels:
            raise ValueError(f"channels {chosen.min()} to {chosen.max()} of {channels}")
        self.index = (chosen[:, None] * taps + np.arange(taps)).ravel()

    def rows(self, array: NDArray[np.float32]) -> Tensor:
        """(C * taps, m) -> float64 (D' * taps, m)."""
        return torch.from_numpy(self._rows(array).astype(np.float64))

    def both(self, gram: NDArray[np.float32]) -> Tensor:
        """(C * taps, C * taps) -> float64 (D' * taps, D' * taps)."""
        if self.mixing is None:
            return torch.from_numpy(gram[np.ix_(self.index, self.index)].astype(np.float64))
        whole = self.rows(self._rows(gram).T)
        return (whole + whole.T) / 2

    def _rows(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.mixing is None:
            picked: NDArray[np.float32] = array[self.index]
            return picked
        mixed: NDArray[np.float32] = self.mixing @ array.reshape(self.channels, -1)
        return mixed.reshape(len(self.mixing) * self.taps, -1)


def _best_ridge(
    gram: Tensor,
    cross: Tensor,
    ridges: Sequence[float],
    error: Callable[[Tensor], float],
    final: Tensor | None = None,
) -> Tensor:
    """Solve with the ridge of least ``error``; with ``final``, for that right-hand side in the end.

    Regressors are scaled to unit mean square; one that is always zero is left out. The error has one valley
    over the ridges in practice: it is walked down from the middle.
    """
    scale = gram.diagonal().clamp_min(0).sqrt()
    scale = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    scaled = gram * scale[:, None] * scale

    def solve(index: int, right: Tensor) -> Tensor | None:
        damped = scaled.clone()
        damped.diagonal().add_(ridges[index])
        factor, failed = torch.linalg.cholesky_ex(damped)
        if int(failed):
            return None
        return scale[:, None] * torch.cholesky_solve(scale[:, None] * right, factor)

    def try_one(index: int) -> tuple[float, Tensor | None]:
        solution = solve(index, cross)
        return (float("inf"), None) if solution is None else (error(solution), solution)

    at = len(ridges) // 2
    best, solution = try_one(at)
    for step in (-1, 1):
        moved = False
        while 0 <= at + step < len(ridges):
            found, other = try_one(at + step)
            if not found < best:
                break
            best, solution, at, moved = found, other, at + step, True
        if moved:
            break
    assert solution is not None, "the largest ridges leave nothing singular"
    if final is None:
        return solution
    whole = solve(at, final)
    assert whole is not None
    return whole
