"""Accuracy and privacy loss of the best candidate of each cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .charts import Frame, Tick, axis, number_label
from .trial_rows import Row, cut_order

Measure = Literal["accuracy", "r2"]

_LEFT, _TOP, _HEIGHT = 56.0, 14.0, 210.0
_STEP, _MOST_WIDTH = 38.0, 900.0
_BELOW = 16.0
_CHARACTER = 5.2
"""How far a character of a slanted label reaches down, and to the left."""


@dataclass(frozen=True)
class Dot:
    """One cut's best candidate; ``inside`` all limits or not."""

    x: float
    y: float
    inside: bool
    title: str


@dataclass(frozen=True)
class Series:
    """One measure over the cuts. ``path``: through its dots, as an SVG polyline's ``points``."""

    measure: Measure
    dots: tuple[Dot, ...]
    path: str


@dataclass(frozen=True)
class CutProfile:
    """The cuts of one backbone at one input size, the earliest at the left."""

    title: str
    frame: Frame
    series: tuple[Series, Series]


def cut_profiles(result: Mapping[str, Any], rows: Sequence[Row]) -> list[CutProfile]:
    """One plot for each backbone and input size with an evaluated candidate; all have the same axis."""
    order = cut_order(result, rows)
    best = best_of_cuts(rows, result["limits"])
    values = [row.figures[name].value for row in best.values() for name in ("accuracy", "r2")]
    low, high, places = axis([0.0, *values])
    profiles = []
    for site, cuts in order.items():
        chosen = [(place, best[site, cut]) for place, cut in enumerate(cuts) if (site, cut) in best]
        if chosen:
            frame = _frame(cuts, low, high, places)
            title = f"{result['backbones'][site[0]]} at {site[1]} pixels"
            series = (_series("accuracy", chosen, frame), _series("r2", chosen, frame))
            profiles.append(CutProfile(title, frame, series))
    return profiles


def best_of_cuts(
    rows: Sequence[Row], limits: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[tuple[int, int], str], Row]:
    """Of each ((backbone, input size), cut) the most accurate inside all limits, or the nearest to them."""
    best: dict[tuple[tuple[int, int], str], Row] = {}
    for row in rows:
        place = row.site, str(row.document["cut"])
        if place not in best or _worth(row, limits) > _worth(best[place], limits):
            best[place] = row
    return best


def _worth(row: Row, limits: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    return -row.over(limits), row.figures["accuracy"].value


def _frame(cuts: Sequence[str], low: float, high: float, places: Sequence[float]) -> Frame:
    slant = _CHARACTER * max(len(cut) for cut in cuts)
    left = max(_LEFT, slant)
    step = min(_STEP, (_MOST_WIDTH - left) / len(cuts))
    bottom = _TOP + _HEIGHT
    frame = Frame(
        width=round(left + step * len(cuts) + 16, 1),
        height=round(bottom + _BELOW + slant, 1),
        left=round(left, 1),
        right=round(left + step * len(cuts), 1),
        top=_TOP,
        bottom=bottom,
        x_low=-0.5,
        x_high=len(cuts) - 0.5,
        y_low=low,
        y_high=high,
    )
    return replace(
        frame,
        x_ticks=tuple(Tick(frame.x(place), cut) for place, cut in enumerate(cuts)),
        y_ticks=tuple(Tick(frame.y(value), number_label(value)) for value in places),
    )


def _series(measure: Measure, chosen: Sequence[tuple[int, Row]], frame: Frame) -> Series:
    dots = []
    for place, row in chosen:
        value = row.figures[measure].value
        told = f"{'accuracy' if measure == 'accuracy' else 'R2'} {value:.3f}"
        dots.append(
            Dot(
                frame.x(place),
                frame.y(value),
                not row.violated,
                f"{row.document['cut']}: {told}; trial {row.number}, {row.stage}, {row.candidate}",
            )
        )
    return Series(measure, tuple(dots), " ".join(f"{dot.x},{dot.y}" for dot in dots))
