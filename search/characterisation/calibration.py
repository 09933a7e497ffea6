"""From a proxy to what individually trained networks give, with an honest error.

A proxy (a closed form, a network for all subsets) ranks candidates but reads off: a calibration learns from a
few candidates, for which both are known, how to read it, and how far such a reading may be wrong. The error
is one-sided: with about 90 % probability the trained figure is at most ``value + error``; and as probably, at
least ``value - error``.

The reading is the simplest that does not do clearly worse on rows left out: the proxy plus a constant, a
rising line, a rising curve, or (for several proxies) a sum of lines. The error comes from the residuals
of rows that were left out of the whole procedure, choice included: Student's t quantile times their root mean
square, or where there are enough rows the residuals' own quantile if that is more; and for a point far from
the known ones it is widened as that of a line would be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, unknown

CONFIDENCE = 0.9
"""Of the one-sided error."""

LEAST_ERROR = {"accuracy": 0.005, "r2": 0.005, "psnr_db": 0.05, "ssim": 0.005}
"""By metric: two trainings that differ in the seed alone differ by more, so no error is smaller."""

_RANGE = {
    "accuracy": (0.0, 1.0),
    "r2": (-math.inf, 1.0),
    "psnr_db": (0.0, 60.0),
    "ssim": (-1.0, 1.0),
}
_CLEARLY = 0.9
"""A reading with more freedom must leave at most this share of the simpler one's error."""
_LINE_ROWS, _CURVE_ROWS = 4, 10
"""Fewest rows for a reading with so much freedom."""
_QUANTILE_ROWS = 9
"""Fewest residuals whose own quantile says something."""
_MAX_FOLDS = 10

_Array = NDArray[np.float64]
_Reading = Callable[[_Array], _Array]


@dataclass(frozen=True)
class Estimate:
    """A calibrated figure and its one-sided 90 % error, both in the metric's unit."""

    value: float
    error: float

    @property
    def at_most(self) -> float:
        """What the trained figure does not exceed, with about 90 % probability."""
        return self.value + self.error

    @property
    def at_least(self) -> float:
        """What the trained figure does not fall below, with about 90 % probability."""
        return self.value - self.error


@dataclass(frozen=True)
class Calibration:
    """A fitted reading of one proxy, or of several together, for one metric.

    ``reading``: ``offset``, ``line``, ``curve`` or ``sum``. ``error``: the one-sided 90 % error among the
    known rows; ``predict`` widens it beyond them. ``rows``: how many there were.
    """

    metric: str
    reading: str
    error: float
    rows: int
    _read: _Reading = field(repr=False)
    _known: _Array = field(repr=False)

    @classmethod
    def fit(
        cls,
        rows: Sequence[tuple[float | Sequence[float], float]],
        *,
        metric: str,
        groups: Sequence[Hashable] | None = None,
    ) -> Calibration:
        """Learn from rows (proxy or proxies, trained figure), all finite.

        ``groups``: what each row belongs to, such as its cut. With three groups or more a whole group is left
        out at a time, so that the error is that of a group not seen before; otherwise row by row, and the
        error is that of another candidate of the same cuts. With one row the error is infinite.
        Raises ``InputError`` for no rows, an unknown metric, numbers that are not finite, or rows of
        different lengths.
        """
        if metric not in LEAST_ERROR:
            raise unknown("metric", metric, LEAST_ERROR)
        if not rows:
            raise InputError("no rows to calibrate on", hint="train networks for a few candidates first")
        points = [np.atleast_1d(np.asarray(proxy, np.float64)) for proxy, _ in rows]
        if len({point.shape for point in points}) > 1 or points[0].ndim > 1 or not points[0].size:
            raise InputError("rows of different numbers of proxies", hint="give the same ones in each row")
        if groups is not None and len(groups) != len(rows):
            raise InputError(f"{len(groups)} groups for {len(rows)} rows", hint="one for each row")
        x, y = np.stack(points), np.array([trained for _, trained in rows], np.float64)
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InputError("proxies or trained figures are not finite", hint="leave such rows out")
        fold = _folds(len(y), groups)
        reading, read = _read_best(x, y, fold)
        error = max(LEAST_ERROR[metric], _error(x, y, fold, _FREEDOM[reading](x.shape[1])))
        return cls(metric, reading, error, len(y), read, x)

    def predict(self, proxy: float | Sequence[float]) -> Estimate:
        """The calibrated figure for a candidate's proxy, or its proxies in the order of the rows.

        The error grows with the distance from the known proxies. Raises ``InputError`` for another number of
        proxies or one that is not finite.
        """
        point = np.atleast_1d(np.asarray(proxy, np.float64))
        if point.shape != self._known.shape[1:] or not np.isfinite(point).all():
            raise InputError(
                f"proxy {point.tolist()}", hint=f"needed: {self._known.shape[1]} finite, as in the rows"
            )
        low, high = _RANGE[self.metric]
        value = float(np.clip(self._read(point[None])[0], low, high))
        return Estimate(value, self.error * _widening(self._known, point))


def _offset(x: _Array, y: _Array) -> _Reading:
    constant = float(np.mean(y - x[:, 0]))
    return lambda new: new[:, 0] + constant


def _line(x: _Array, y: _Array) -> _Reading:
    centred = x[:, 0] - x[:, 0].mean()
    squares = float(centred @ centred)
    slope = max(0.0, float(centred @ y) / squares) if squares > 0 else 0.0
    constant = float(y.mean() - slope * x[:, 0].mean())
    return lambda new: slope * new[:, 0] + constant


def _curve(x: _Array, y: _Array) -> _Reading:
    from scipy.optimize import isotonic_regression

    places, home = np.unique(x[:, 0], return_inverse=True)
    counts = np.bincount(home)
    rising = isotonic_regression(np.bincount(home, y) / counts, weights=counts).x
    return lambda new: np.interp(new[:, 0], places, rising)


def _sum(x: _Array, y: _Array) -> _Reading:
    from scipy.optimize import nnls

    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1
    # Two proxies of the same thing go up and down together: a little ridge shares the weight between them.
    ridge = math.sqrt(0.01 * len(y)) * np.eye(x.shape[1])
    left = np.concatenate([(x - mean) / scale, ridge])
    slopes = nnls(left, np.concatenate([y - y.mean(), np.zeros(x.shape[1])]))[0] / scale
    constant = float(y.mean() - slopes @ mean)
    return lambda new: np.asarray(new @ slopes + constant, np.float64)


_READINGS: dict[str, Callable[[_Array, _Array], _Reading]] = {
    "offset": _offset,
    "line": _line,
    "sum": _sum,
    "curve": _curve,
}
_FREEDOM: dict[str, Callable[[int], int]] = {
    "offset": lambda proxies: 1,
    "line": lambda proxies: 2,
    "sum": lambda proxies: 1 + proxies,
    "curve": lambda proxies: 2,
}


def _candidates(rows: int, proxies: int) -> list[tuple[str, list[int]]]:
    """Readings with the columns they read, those of least freedom first."""
    columns = [[column] for column in range(proxies)]
    found = [("offset", column) for column in columns]
    if rows >= _LINE_ROWS:
        found += [("line", column) for column in columns]
        if proxies > 1 and rows > _LINE_ROWS:
            found.append(("sum", list(range(proxies))))
    if rows >= _CURVE_ROWS:
        found += [("curve", column) for column in columns]
    return found


def _read_best(x: _Array, y: _Array, fold: NDArray[np.int64]) -> tuple[str, _Reading]:
    """The simplest reading that is not clearly worse on rows left out, fitted to all rows."""

    def bind(name: str, columns: list[int], x: _Array, y: _Array) -> _Reading:
        read = _READINGS[name](x[:, columns], y)
        return lambda new: read(new[:, columns])

    candidates = _candidates(len(y), x.shape[1])
    chosen, least = candidates[0], math.inf
    if len(np.unique(fold)) > 1:
        for name, columns in candidates:
            rest = _left_out(x, y, fold, partial(bind, name, columns))
            error = float(np.sqrt(np.mean(rest**2)))
            simpler = name == chosen[0]
            if error < least * (1 if simpler else _CLEARLY):
                chosen, least = (name, columns), error
    return chosen[0], bind(*chosen, x, y)


def _left_out(
    x: _Array, y: _Array, fold: NDArray[np.int64], fit: Callable[[_Array, _Array], _Reading]
) -> _Array:
    """Each row's residual (n,) from a fit to the rows of the other folds."""
    rest = np.empty(len(y))
    for number in np.unique(fold):
        out = fold == number
        rest[out] = y[out] - fit(x[~out], y[~out])(x[out])
    return rest


def _error(x: _Array, y: _Array, fold: NDArray[np.int64], freedom: int) -> float:
    from scipy.special import stdtrit

    parts = len(np.unique(fold))
    if parts < 2:
        return math.inf

    def choose(x: _Array, y: _Array) -> _Reading:
        return _read_best(x, y, _folds(len(y), None))[1]

    rest = _left_out(x, y, fold, choose)
    # Rows of one group err together: there are as many independent residuals as folds.
    degrees = max(1, (parts if parts < min(len(y), _MAX_FOLDS) else len(y)) - freedom)
    error = float(stdtrit(degrees, CONFIDENCE) * np.sqrt(np.mean(rest**2)))
    if len(rest) >= _QUANTILE_ROWS:
        rank = math.ceil(CONFIDENCE * len(rest))
        error = max(error, *(float(np.sort(sign * rest)[rank - 1]) for sign in (1, -1)))
    return error


def _folds(rows: int, groups: Sequence[Hashable] | None) -> NDArray[np.int64]:
    """The fold (n,) in which each row is left out: groups in turn, else rows, several at a time if many."""
    if groups is not None and len(set(groups)) > 2:
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        return np.array([numbers[group] for group in groups])
    order = np.random.default_rng(0).permutation(rows)
    return order % min(rows, _MAX_FOLDS if rows > 2 * _MAX_FOLDS else rows)


def _widening(known: _Array, point: _Array) -> float:
    """How much farther off a line is at ``point`` than at the known ones on average; at least 1."""
    mean, variance = known.mean(axis=0), known.var(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where the known ones are all alike, anything else is infinitely far away.
        distance = np.where(np.isclose(point, mean), 0.0, (point - mean) ** 2 / variance)
    leverage = float(np.max(distance)) / len(known)
    average = 1 / len(known)
    return max(1.0, math.sqrt((1 + 1 / len(known) + leverage) / (1 + 1 / len(known) + average)))
