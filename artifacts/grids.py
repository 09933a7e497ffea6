"""Grids of whole multiples of a scale, with the least squared error on given values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_ZERO = 2**20
"""Beyond, float32 would round x / scale + zero_point to more than a small part of a step."""
_RUNGS = 256
"""Scales are exp(n / _RUNGS) for whole n, 0.4 % apart: few enough to reproduce where sums differ in their
last bits, and with quotients that are not rational, so that few sums of values on two grids lie halfway
between two steps of a third."""
_SAMPLE = 2**22
_DECADES = 2.5
"""How far below the full range the search for the clipping range goes; 2-bit payloads of heavy tails clip to
about a twentieth."""
_COARSE, _KEPT = 120, 4
"""Scales tried at first, and how many of the best have their neighbours tried."""


def fit_grid(values: NDArray[np.floating[Any]], levels: int, *, with_zero: bool = False) -> tuple[float, int]:
    """Scale and zero point of the grid (q - zero_point) * scale, q = 0 .. levels - 1, nearest to values.

    ``values``: finite, at least one, any shape; of more than four million a fixed random choice is looked at.
    The clipping range is searched, so rare large values may be cut off. The scale is one of a fixed ladder,
    so that it reproduces. ``with_zero``: 0 is on the grid, so that 0 <= zero_point < levels.
    """
    flat = np.asarray(values).ravel()
    if flat.size > _SAMPLE:
        flat = flat[np.random.default_rng(0).integers(flat.size, size=_SAMPLE)]
    return _GridSearch(np.sort(flat.astype(np.float64)), levels, with_zero=with_zero).best()


def scales_near(scale: float, count: int) -> list[float]:
    """A fitted scale and its neighbours on the ladder, the nearest first."""
    rung = _rung(scale)
    return [_scale(rung + (number + 1) // 2 * (-1) ** number) for number in range(count)]


class _GridSearch:
    """The squared error of sorted values under every grid of ``levels`` neighbouring multiples of a scale.

    Sums over the values between two multiples come from prefix sums, so one scale costs a binary search per
    multiple in the values' range, and all zero points of it are judged at once.
    """

    def __init__(self, values: NDArray[np.float64], levels: int, *, with_zero: bool) -> None:
        self.values, self.levels, self.with_zero = values, levels, with_zero
        low, high = float(values[0]), float(values[-1])
        self.low, self.high = (min(low, 0.0), max(high, 0.0)) if with_zero else (low, high)
        self.sums = np.concatenate([[0.0], np.cumsum(values)])
        self.squares = np.concatenate([[0.0], np.cumsum(values**2)])

    def best(self) -> tuple[float, int]:
        """The scale and the zero point."""
        low, high = float(self.values[0]), float(self.values[-1])
        largest = max(abs(low), abs(high))
        if high - low <= 1e-6 * largest or largest == 0:
            # one value: a step of its own size, or any
            return (_scale(_rung(largest)), int(low < 0)) if largest > 1e-30 else (1.0, 0)
        # Up to twice the range's step: multiples of a scale need not lie at the range's ends.
        top = 2 * (self.high - self.low) / (self.levels - 1)
        least = max(top * 10**-_DECADES, 2 * largest / MOST_ZERO)
        first, last = _rung(least), _rung(top)
        stride = max(1, (last - first) // _COARSE)
        coarse = np.arange(first, last + 1, stride)
        errors = [self.error(_scale(int(rung)))[0] for rung in coarse]
        near = {
            rung
            for centre in coarse[np.argsort(errors, kind="stable")[:_KEPT]]
            for rung in range(int(centre) - stride, int(centre) + stride + 1)
        }
        scale = min(map(_scale, sorted(near)), key=lambda scale: self.error(scale)[0])
        return scale, self.error(scale)[1]

    def error(self, scale: float) -> tuple[float, int]:
        """The least squared error over all zero points, and the zero point."""
        low, high = np.rint(np.array([self.low, self.high]) / scale)
        multiples = np.arange(low, max(high, low + self.levels - 1) + 1)
        ends = np.searchsorted(self.values, (multiples[:-1] + 0.5) * scale)
        ends = np.concatenate([[0], ends, [len(self.values)]])
        inside = np.concatenate([[0.0], np.cumsum(self._between(ends[:-1], ends[1:], multiples * scale))])
        # a window of neighbouring multiples: what lies beyond is clipped to its ends
        first = np.arange(len(multiples) - self.levels + 1)
        last = first + self.levels - 1
        below = self._between(0, ends[first], multiples[first] * scale)
        above = self._between(ends[last + 1], len(self.values), multiples[last] * scale)
        errors = inside[last + 1] - inside[first] + below + above
        if self.with_zero:
            errors[(multiples[first] > 0) | (multiples[last] < 0)] = np.inf
        best = int(np.argmin(errors))
        return float(errors[best]), -int(multiples[best])

    def _between(self, start: Any, end: Any, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """The squared error of the values in rows start to end when all are read as ``level``."""
        total, squares = self.sums[end] - self.sums[start], self.squares[end] - self.squares[start]
        result: NDArray[np.float64] = squares - 2 * level * total + level**2 * (end - start)
        return result


def _rung(scale: float) -> int:
    return round(_RUNGS * math.log(scale))


def _scale(rung: int) -> float:
    """As float32 holds it, to be written with few digits."""
    return float(f"{math.exp(rung / _RUNGS):.6e}")
