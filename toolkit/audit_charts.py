"""The geometry of an audit report's plots, in SVG user units; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from .charts import Tick, axis

Reference = Literal["blind", "label", "chance", "originals"]


@dataclass(frozen=True)
class Measured:
    """One attack's score and what the reader sees when pointing at it."""

    name: str
    value: float
    low: float
    high: float
    """Ends of its interval."""
    pairs_only: bool
    strongest: bool
    title: str


@dataclass(frozen=True)
class Whisker:
    """One attack in a panel: a mark at ``x`` with its interval from ``low`` to ``high``, at height ``y``."""

    y: float
    x: float
    low: float
    high: float
    name: str
    pairs_only: bool
    strongest: bool
    title: str


@dataclass(frozen=True)
class Floor:
    """A vertical line: what is reached without the encoder's output, or on the originals."""

    x: float
    kind: Reference
    title: str


@dataclass(frozen=True)
class Panel:
    """One measure of every attack, further right is more recovered."""

    title: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    ticks: tuple[Tick, ...]
    whiskers: tuple[Whisker, ...]
    floors: tuple[Floor, ...]


@dataclass(frozen=True)
class Point:
    """One score of a curve."""

    x: float
    y: float
    low: float
    high: float
    title: str


@dataclass(frozen=True)
class Curve:
    """One attack's scores over the number of pairs; ``style`` tells curves apart, from 0."""

    name: str
    points: tuple[Point, ...]
    label_y: float
    style: int

    @property
    def path(self) -> str:
        """The line through the points, as an SVG polyline's ``points``."""
        return " ".join(f"{point.x},{point.y}" for point in self.points)


@dataclass(frozen=True)
class Curves:
    """One measure over the number of pairs, on a logarithmic axis."""

    title: str
    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]


_PANEL_WIDTH, _PANEL_LEFT, _PANEL_RIGHT = 340, 128, 326
_PANEL_TOP, _ROW, _BELOW = 10, 20, 24
_MOST_TICKS = 6
_CURVES = (460, 260)
_CURVES_LEFT, _CURVES_RIGHT, _CURVES_TOP, _CURVES_BOTTOM = 48, 322, 14, 216
_LABELS_APART = 15
_NUMBERS_APART = 48


def panel(
    title: str,
    attacks: Sequence[Measured],
    floors: Sequence[tuple[Reference, float, str]],
    *,
    form: str,
    span: tuple[float, float] | None = None,
) -> Panel:
    """One measure: ``floors`` are (kind, value, title), ``form`` formats ticks.

    ``span`` is what the axis shows at least.
    """
    values = [value for attack in attacks for value in (attack.low, attack.value, attack.high)]
    low, high, places = axis([*values, *(value for _, value, _ in floors), *(span or ())])
    every = math.ceil(len(places) / _MOST_TICKS)

    def x(value: float) -> float:
        return round(_PANEL_LEFT + (value - low) / (high - low) * (_PANEL_RIGHT - _PANEL_LEFT), 1)

    bottom = _PANEL_TOP + _ROW * max(1, len(attacks))
    return Panel(
        title=title,
        width=_PANEL_WIDTH,
        height=bottom + _BELOW,
        left=_PANEL_LEFT,
        right=_PANEL_RIGHT,
        top=_PANEL_TOP,
        bottom=bottom,
        ticks=tuple(Tick(x(value), f"{value:{form}}") for value in places[::every]),
        whiskers=tuple(
            Whisker(
                y=_PANEL_TOP + _ROW * (row + 0.5),
                x=x(attack.value),
                low=x(attack.low),
                high=x(attack.high),
                name=attack.name,
                pairs_only=attack.pairs_only,
                strongest=attack.strongest,
                title=attack.title,
            )
            for row, attack in enumerate(attacks)
        ),
        floors=tuple(Floor(x(value), kind, told) for kind, value, told in floors),
    )


def curves(title: str, series: Sequence[tuple[str, Sequence[tuple[int, Measured]]]], *, form: str) -> Curves:
    """Scores over numbers of pairs: ``series`` is (attack, its (pairs, score)), pairs ascending."""
    scores = [score for _, points in series for _, score in points]
    low, high, places = axis(value for score in scores for value in (score.low, score.value, score.high))
    counts = sorted({pairs for _, points in series for pairs, _ in points})
    first, last = math.log(counts[0]), math.log(counts[-1])

    def x(pairs: int) -> float:
        share = (math.log(pairs) - first) / (last - first) if last > first else 0.5
        return round(_CURVES_LEFT + share * (_CURVES_RIGHT - _CURVES_LEFT), 1)

    def y(value: float) -> float:
        return round(_CURVES_BOTTOM - (value - low) / (high - low) * (_CURVES_BOTTOM - _CURVES_TOP), 1)

    drawn = [
        [Point(x(pairs), y(score.value), y(score.low), y(score.high), score.title) for pairs, score in points]
        for _, points in series
    ]
    labels = _apart([points[-1].y for points in drawn])
    return Curves(
        title=title,
        width=_CURVES[0],
        height=_CURVES[1],
        left=_CURVES_LEFT,
        right=_CURVES_RIGHT,
        top=_CURVES_TOP,
        bottom=_CURVES_BOTTOM,
        x_ticks=tuple(
            Tick(x(pairs), f"{pairs:,}")
            for pairs, after in zip(counts, [*counts[1:], None], strict=True)
            # a label that would run into the next one is left out; the table has all counts
            if after is None or x(after) - x(pairs) > _NUMBERS_APART
        ),
        y_ticks=tuple(Tick(y(value), f"{value:{form}}") for value in places),
        curves=tuple(
            Curve(name, tuple(points), label, style)
            for style, ((name, _), points, label) in enumerate(zip(series, drawn, labels, strict=True))
        ),
    )


def _apart(heights: Sequence[float]) -> list[float]:
    """The same heights in the same order, moved so that labels there do not overlap."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    moved = list(heights)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + _LABELS_APART)
    # those pushed out below come back up
    limit = float(_CURVES_BOTTOM)
    for number in reversed(order):
        moved[number] = round(min(moved[number], limit), 1)
        limit = moved[number] - _LABELS_APART
    return moved
