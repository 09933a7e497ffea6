"""Distance correlation of images and features: how much the one depends on the other, in any way at all.

Szekely, Rizzo and Bakirov 2007 (biased, V-statistics); Szekely and Rizzo 2014 (bias-corrected, U-statistics).
Distances are Euclidean: squared ones see linear dependence only. The biased estimate tends to 1 in high
dimension even for independent samples; the corrected one does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SAMPLES = 4
"""The corrected estimate divides by n - 3."""
_FEW_DIMENSIONS = 64
# Pairs whose squared distance is below this share of their norms have lost too many digits in float32.
_CLOSE = 1e-4
_CLOSE_PAIRS_ONE_BY_ONE = 1 / 512
_TINY = 1e-20


@dataclass(frozen=True)
class DistanceCorrelation:
    """Distance correlation of n samples.

    ``biased``: dCor in [0, 1] from V-statistics, what papers mostly print; beside the point where the
    dimension is large against n. ``corrected``: dCor^2 from U-statistics in [-1, 1], 0 on average for
    independent samples, hence negative at times.
    """

    biased: float
    corrected: float
    n: int

    @property
    def biased_squared(self) -> float:
        """dCor^2 from V-statistics: what ``corrected`` corrects."""
        return self.biased**2

    def document(self) -> dict[str, Any]:
        """As in an audit's ``dcor``."""
        return {"biased": self.biased, "corrected": self.corrected, "n": self.n}


def distance_correlation(
    x: NDArray[Any] | Tensor, y: NDArray[Any] | Tensor, *, block: int = 512, progress: Progress = SILENT
) -> DistanceCorrelation:
    """Over all pairs of n samples ``x`` and ``y``, each (n, ...) of any numbers, flattened.

    Distances are computed in blocks of ``block`` by ``block`` pairs and never kept, so that memory is one
    copy of the inputs and a few blocks. Inner products are taken in float32 for inputs of at most 32 bits
    and more than 64 dimensions, else in float64; pairs too close together for that are computed again in
    float64; all sums are float64. Where all samples (or all distances) of a side are equal nothing can be
    said, and the result is defined as 0.

    Raises ``InputError`` for fewer than 4 samples, as many of each not, or values that are not finite.
    """
    if block < 1:
        raise InputError(f"a block of {block} samples", hint="needed: 1 or more")
    left, right = _Distances(x, "x", block), _Distances(y, "y", block)
    n = len(left.points)
    if len(right.points) != n:
        raise InputError(f"{n} samples of x, {len(right.points)} of y", hint="needed: one y for each x")
    products = np.zeros(3)
    sums = np.zeros((2, n))
    ones = np.ones(block)
    starts = range(0, n, block)
    with progress.task("distance correlation", len(starts) * (len(starts) + 1) // 2) as task:
        for top in starts:
            rows = slice(top, min(top + block, n))
            for start in range(top, n, block):
                columns = slice(start, min(start + block, n))
                a, b = left.block(rows, columns), right.block(rows, columns)
                # a block above the diagonal stands for its mirror image too
                weight = 1 if start == top else 2
                for total, distances in zip(sums, (a, b), strict=True):
                    total[rows] += distances @ ones[: distances.shape[1]]
                    if start != top:
                        total[columns] += ones[: len(distances)] @ distances
                products += weight * np.array([np.vdot(a, b), np.vdot(a, a), np.vdot(b, b)])
                task.advance()
    offsets = left.offset, right.offset
    pairs = ((0, 1), (0, 0), (1, 1))
    biased, corrected = (
        [
            centre(product, sums[i], sums[j], offsets[i], offsets[j])
            for product, (i, j) in zip(products, pairs, strict=True)
        ]
        for centre in (_double_centred, _u_centred)
    )
    least = [(side.resolution * side.offset) ** 2 for side in (left, right)]
    return DistanceCorrelation(
        biased=math.sqrt(min(1.0, max(0.0, _ratio(biased, least)))),
        corrected=_ratio(corrected, least),
        n=n,
    )


def dcor_loss(x: Tensor, z: Tensor) -> Tensor:
    """Bias-corrected dCor^2 of one batch ``x`` (n, ...) and ``z`` (n, ...): a scalar to train with.

    In [-1, 1]: 1 when ``z`` is ``x`` moved, turned and scaled; 0 on average over batches when both are
    independent, so below 0 for some batches; 0, with finite gradients, where one side is constant. It
    does not change with the scale of ``z``: shrinking the features does not lower it. Differentiable in
    both, computed in float32 (float64 stays), also under autocast. Raises ``InputError`` for fewer than 4
    samples, or as many of each not.
    """
    import torch

    if len(x) != len(z) or len(x) < LEAST_SAMPLES:
        raise InputError(
            f"a batch of {len(x)} x and {len(z)} z", hint=f"needed: as many of each, {LEAST_SAMPLES} or more"
        )
    with torch.autocast(x.device.type, enabled=False):
        a, b = (_u_centred_distances(values) for values in (x, z))
        # epsilons inside roots: at 0 the root's own gradient is infinite
        return (a * b).mean() / ((a * a).mean() * (b * b).mean() + _TINY).sqrt()


class _Distances:
    """Distances of the rows of one side, less an offset off the diagonal, block by block."""

    def __init__(self, values: NDArray[Any] | Tensor, name: str, block: int) -> None:
        array = _numbers(values, name)
        with np.errstate(invalid="ignore", over="ignore"):
            self.points = np.subtract(array, array[:1])  # exactly 0 where all are equal
            self.points -= np.full(len(array), 1 / len(array), array.dtype) @ self.points
            reach = max(float(self.points.max()), -float(self.points.min()))
        if not math.isfinite(reach):
            raise InputError(f"{name} has values that are not finite, or too far apart", hint="remove them")
        # distance correlation does not change with scale: squares can neither overflow nor vanish
        self.points /= array.dtype.type(reach or 1)
        self.norms = np.vecdot(self.points, self.points)
        # The mean distance, nearly so in high dimension. What is left varies little from 0, so that sums
        # of its products keep their digits.
        self.offset = math.sqrt(2 * float(self.norms.mean(dtype=np.float64)))
        self.resolution = 8 * float(np.finfo(array.dtype).eps)
        side = min(block, len(array))
        self._products = np.empty(side * side, array.dtype)
        self._distances = np.empty(side * side)

    def block(self, rows: slice, columns: slice) -> NDArray[np.float64]:
        """Rows against columns, in a buffer that the next call overwrites."""
        above, left = self.points[rows], self.points[columns]
        shape = len(above), len(left)
        size = shape[0] * shape[1]
        squares = self._products[:size].reshape(shape)
        np.matmul(above, left.T, out=squares)
        squares *= -2
        squares += self.norms[rows, None]
        squares += self.norms[columns]
        diagonal = rows == columns
        if diagonal:
            np.fill_diagonal(squares, 1)
        if squares.dtype == np.float32:
            self._repair(squares, rows, columns)
        np.maximum(squares, 0, out=squares)
        np.sqrt(squares, out=squares)
        distances = self._distances[:size].reshape(shape)
        distances[...] = squares
        distances -= self.offset
        if diagonal:
            np.fill_diagonal(distances, 0)
        return distances

    def _repair(self, squares: NDArray[np.float32], rows: slice, columns: slice) -> None:
        """Compute the squared distances of close pairs again, in float64."""
        norms = float(self.norms[rows].max()) + float(self.norms[columns].max())
        flat = squares.reshape(-1)
        close = np.flatnonzero(flat < np.float32(_CLOSE * norms))
        if len(close) <= len(flat) * _CLOSE_PAIRS_ONE_BY_ONE:
            above, left = np.divmod(close, squares.shape[1])
            apart = self.points[rows][above] - self.points[columns][left]
            flat[close] = np.vecdot(apart, apart)
            return
        above, left = self.points[rows].astype(np.float64), self.points[columns].astype(np.float64)
        exact = above @ left.T
        exact *= -2
        exact += np.vecdot(above, above)[:, None]
        exact += np.vecdot(left, left)
        squares[...] = exact
        if rows == columns:
            np.fill_diagonal(squares, 1)


def _numbers(values: NDArray[Any] | Tensor, name: str) -> NDArray[Any]:
    """(n, d), float32 or float64; not a copy where it need not be."""
    if not isinstance(values, np.ndarray):
        tensor = values.detach().cpu()
        values = (tensor.float() if tensor.element_size() < 4 else tensor).numpy()
    if values.ndim < 1 or len(values) < LEAST_SAMPLES or values.size == 0:
        raise InputError(
            f"{name} has the shape {values.shape}", hint=f"needed: (n, ...), n at least {LEAST_SAMPLES}"
        )
    if values.dtype.kind not in "fiub":
        raise InputError(f"{name} is {values.dtype}", hint="needed: real numbers")
    array = values.reshape(len(values), -1)
    narrow = array.dtype.itemsize <= (2 if array.dtype.kind in "iub" else 4)
    return array.astype(np.float32 if narrow and array.shape[1] > _FEW_DIMENSIONS else np.float64, copy=False)


def _double_centred(
    product: float, a: NDArray[np.float64], b: NDArray[np.float64], offset_a: float, offset_b: float
) -> float:
    """Mean product of doubly centred distances (the V-statistic dCov^2).

    ``product``: of distances less their offsets off the diagonal, summed over all pairs; ``a`` and ``b``:
    their row sums. Double centring turns an offset c into -c times the centring matrix, whose inner
    products with the rest are known.
    """
    n = len(a)
    total_a, total_b = a.sum(), b.sum()
    centred = product - 2 / n * np.vdot(a, b) + total_a * total_b / n**2
    moved = offset_b * total_a / n + offset_a * total_b / n + offset_a * offset_b * (n - 1)
    return float((centred + moved) / n**2)


def _u_centred(
    product: float, a: NDArray[np.float64], b: NDArray[np.float64], offset_a: float, offset_b: float
) -> float:
    """Mean product of U-centred distances (the U-statistic dCov^2); offsets fall out of it."""
    n = len(a)
    centred = product - 2 / (n - 2) * np.vdot(a, b) + a.sum() * b.sum() / ((n - 1) * (n - 2))
    return float(centred / (n * (n - 3)))


def _ratio(moments: list[float], least: list[float]) -> float:
    """Covariance over the root of both variances; 0 where one of these is no more than rounding."""
    covariance, *variances = moments
    if any(variance <= bound for variance, bound in zip(variances, least, strict=True)):
        return 0.0
    return covariance / math.sqrt(variances[0]) / math.sqrt(variances[1])


def _u_centred_distances(values: Tensor) -> Tensor:
    """U-centred distances (n, n) in units of their mean, zero on the diagonal."""
    points = values.flatten(1)
    points = points if points.dtype.itemsize == 8 else points.float()
    points = points - points.mean(0).detach()
    n = len(points)
    apart = 1 - points.new_ones(n).diag()
    norms = points.square().sum(1)
    squares = (norms[:, None] + norms - 2 * points @ points.T).clamp_min(0) * apart
    distances = (squares + (_TINY + 1e-10 * squares.mean())).sqrt() * apart
    # less 1, their mean, so that equal distances leave no rounding behind
    deviations = (distances / (distances.sum() / (n * (n - 1))) - 1) * apart
    rows = deviations.sum(1)
    centred = deviations - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return centred * apart
