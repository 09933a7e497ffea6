"""The geometry of a run report's plots, in SVG user units; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["chosen", "feasible", "infeasible"]


@dataclass(frozen=True)
class Trial:
    """One evaluated trial: what it recovers and scores, and what the reader sees when pointing at it."""

    privacy_loss: float
    utility: float
    state: State
    title: str


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Dot:
    """One trial on the plot."""

    x: float
    y: float
    state: State
    title: str


@dataclass(frozen=True)
class Line:
    """A vertical line with its label, at ``label_y``; ``anchor`` is the label's SVG text-anchor."""

    x: float
    label: str
    label_y: float
    anchor: Literal["start", "end"]


@dataclass(frozen=True)
class Scatter:
    """Utility (up) against privacy loss (right)."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    limit: Line | None
    floor: Line | None


_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 624, 32, 340
_LABELS_APART = 250
"""Lines nearer to each other have their labels at different heights."""
_ORDER: dict[State, int] = {"infeasible": 0, "feasible": 1, "chosen": 2}


def scatter(trials: Sequence[Trial], *, limit: float | None, floor: float | None) -> Scatter:
    """The plot of all evaluated trials; ``limit`` is that on r2, ``floor`` the label-only r2."""
    marks = [value for value in (limit, floor) if value is not None]
    x_low, x_high, x_ticks = axis([*(trial.privacy_loss for trial in trials), *marks])
    y_low, y_high, y_ticks = axis([trial.utility for trial in trials])

    def x(value: float) -> float:
        return round(_LEFT + (value - x_low) / (x_high - x_low) * (_RIGHT - _LEFT), 1)

    def y(value: float) -> float:
        return round(_BOTTOM - (value - y_low) / (y_high - y_low) * (_BOTTOM - _TOP), 1)

    def line(value: float | None, label: str, label_y: float) -> Line | None:
        if value is None:
            return None
        at = x(value)
        return Line(at, f"{label} {value:.2f}", label_y, "end" if at > (_LEFT + _RIGHT) / 2 else "start")

    apart = limit is None or floor is None or abs(x(limit) - x(floor)) > _LABELS_APART

    # the chosen one last, so that nothing hides it
    drawn = sorted(trials, key=lambda trial: _ORDER[trial.state])
    return Scatter(
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        top=_TOP,
        bottom=_BOTTOM,
        x_ticks=tuple(Tick(x(value), f"{value:g}") for value in x_ticks),
        y_ticks=tuple(Tick(y(value), f"{value:.3g}") for value in y_ticks),
        dots=tuple(Dot(x(t.privacy_loss), y(t.utility), t.state, t.title) for t in drawn),
        limit=line(limit, "limit", _TOP - 10),
        floor=line(floor, "label only", _TOP - 10 if apart else _BOTTOM - 10),
    )


def axis(values: Iterable[float]) -> tuple[float, float, list[float]]:
    """Ends of an axis that holds all values with some air, and round places between them."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    spread = max(high - low, 0.02)
    low, high = low - 0.08 * spread, high + 0.08 * spread
    rough = (high - low) / 6
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    first = math.ceil(low / step)
    ticks = [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]
    return low, high, ticks
