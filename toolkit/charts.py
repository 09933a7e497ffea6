"""The geometry that plots share, in SVG user units: an area with two axes. The templates draw them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Frame:
    """A plot's size, the area between its axes, and what these show.

    ``x_low`` lies at ``left``, ``y_low`` at ``bottom``.
    """

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_low: float = 0.0
    x_high: float = 1.0
    y_low: float = 0.0
    y_high: float = 1.0
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()

    def x(self, value: float) -> float:
        """Where a value lies across."""
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return round(self.left + share * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Where a value lies: more is higher."""
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.bottom - share * (self.bottom - self.top), 1)


def number_label(value: float) -> str:
    """A tick's number as it is."""
    return f"{value:g}"


def percent_label(value: float) -> str:
    """A tick's share, in per cent."""
    return f"{100 * value:g} %"


def framed(
    area: Frame,
    across: Iterable[float],
    up: Iterable[float],
    *,
    x_label: Callable[[float], str] = number_label,
    y_label: Callable[[float], str] = number_label,
) -> Frame:
    """The area with axes that hold all values ``across`` and ``up``."""
    x_low, x_high, x_places = axis(across)
    y_low, y_high, y_places = axis(up)
    bare = replace(area, x_low=x_low, x_high=x_high, y_low=y_low, y_high=y_high)
    return replace(
        bare,
        x_ticks=tuple(Tick(bare.x(value), x_label(value)) for value in x_places),
        y_ticks=tuple(Tick(bare.y(value), y_label(value)) for value in y_places),
    )


def log_framed(
    area: Frame, values: Iterable[float], *, label: Callable[[float], str] = number_label
) -> Frame:
    """The area with the same axis across and up, of the decimal logarithms of one or more positive values."""
    logs = [math.log10(value) for value in values]
    air = 0.05 * max(max(logs) - min(logs), 0.1)
    low, high = min(logs) - air, max(logs) + air
    bare = replace(area, x_low=low, x_high=high, y_low=low, y_high=high)
    decades = range(math.floor(low), math.ceil(high) + 1)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    places = [step * 10.0**decade for decade in decades for step in steps]
    shown = [(math.log10(place), label(place)) for place in places if low <= math.log10(place) <= high]
    return replace(
        bare,
        x_ticks=tuple(Tick(bare.x(at), text) for at, text in shown),
        y_ticks=tuple(Tick(bare.y(at), text) for at, text in shown),
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
