"""Heat maps of accuracy and of privacy loss over cuts and numbers of channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .charts import Tick

_CELL_WIDTH, _CELL_HEIGHT = 25.0, 20.0
_LEAST_FOR_NUMBERS = 24.0
"""Narrower cells stay without their number."""
_MOST_WIDTH = 940.0
_TOP, _BELOW = 8.0, 44.0
_BAR_GAP, _BAR_WIDTH, _BAR_LABELS = 12.0, 12.0, 38.0
_CHARACTER = 7.0
_BAR_STEPS = 24
_LEAST_SPAN = 0.1
_WHITE_BELOW = 0.18
"""On a darker ground white has more contrast than black."""

_RAMPS = {
    "accuracy": ("#edf4fb", "#9cc4e4", "#3d7fb8", "#0c3a66"),
    "r2": ("#fdf1e4", "#f3b98a", "#cc6224", "#672405"),
}
"""Light to dark in one hue each: readable without colour, and in print."""


@dataclass(frozen=True)
class Cell:
    """One cut with one number of channels. ``text`` is its number, empty where it does not fit."""

    x: float
    y: float
    fill: str
    ink: str
    text: str
    title: str


@dataclass(frozen=True)
class HeatMap:
    """One measure over (cut, channels); early cuts are at the top, few channels at the left."""

    name: str
    width: float
    height: float
    cell_width: float
    cell_height: float
    left: float
    right: float
    bottom: float
    cells: tuple[Cell, ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    bar_x: float
    bar: tuple[tuple[float, float, str], ...]
    """The colour bar's pieces: (y, height, fill)."""
    bar_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class Overview:
    """The pair of one backbone and input size."""

    title: str
    calibrated: bool
    maps: tuple[HeatMap, HeatMap]


def overviews(result: Mapping[str, Any]) -> list[Overview]:
    """One pair for each backbone and input size; all share the scale of a measure, so that they compare."""
    entries = result["overview"]
    spans = {name: _span(entry[name] for entry in entries) for name in _RAMPS} if entries else {}
    return [
        Overview(
            title=f"{result['backbones'][entry['backbone']]} at {entry['input_size']} pixels",
            calibrated=entry["calibrated"],
            maps=(
                heat_map("accuracy", entry["accuracy"], entry["cuts"], entry["counts"], spans["accuracy"]),
                heat_map("r2", entry["r2"], entry["cuts"], entry["counts"], spans["r2"]),
            ),
        )
        for entry in entries
    ]


def heat_map(
    name: str,
    values: Sequence[Sequence[float | None]],
    cuts: Sequence[str],
    counts: Sequence[int],
    span: tuple[float, float],
) -> HeatMap:
    """``values``: for each cut and count; ``None`` stays blank. ``name``: ``accuracy`` or ``r2``.

    ``span``: what the lightest and the darkest colour stand for.
    """
    ramp, written = _RAMPS[name], _WRITTEN[name]
    left = 10 + _CHARACTER * max((len(cut) for cut in cuts), default=0)
    beside = _BAR_GAP + _BAR_WIDTH + _BAR_LABELS
    width = min(_CELL_WIDTH, (_MOST_WIDTH - left - beside) / max(1, len(counts)))
    right, bottom = left + width * len(counts), _TOP + _CELL_HEIGHT * len(cuts)
    low, high = span
    cells = []
    for row, (cut, line) in enumerate(zip(cuts, values, strict=True)):
        for column, (count, value) in enumerate(zip(counts, line, strict=True)):
            if value is None:
                continue
            fill = _colour(ramp, (value - low) / (high - low))
            cells.append(
                Cell(
                    x=round(left + width * column, 1),
                    y=_TOP + _CELL_HEIGHT * row,
                    fill=_hex(fill),
                    ink="#ffffff" if _luminance(fill) < _WHITE_BELOW else "#101418",
                    text=written(value) if width >= _LEAST_FOR_NUMBERS else "",
                    title=f"{cut}, {count} channels: {_TITLES[name](value)}",
                )
            )
    piece = (bottom - _TOP) / _BAR_STEPS
    return HeatMap(
        name=name,
        width=round(right + beside, 1),
        height=bottom + _BELOW,
        cell_width=round(width, 1),
        cell_height=_CELL_HEIGHT,
        left=left,
        right=round(right, 1),
        bottom=bottom,
        cells=tuple(cells),
        rows=tuple(Tick(_TOP + _CELL_HEIGHT * (row + 0.5), cut) for row, cut in enumerate(cuts)),
        columns=tuple(
            Tick(round(left + width * (column + 0.5), 1), str(count)) for column, count in enumerate(counts)
        ),
        bar_x=round(right + _BAR_GAP, 1),
        bar=tuple(
            (
                round(bottom - piece * (step + 1), 2),
                round(piece + 0.3, 2),
                _hex(_colour(ramp, (step + 0.5) / _BAR_STEPS)),
            )
            for step in range(_BAR_STEPS)
        ),
        bar_ticks=tuple(
            Tick(round(bottom - share * (bottom - _TOP), 1), _ENDS[name](low + share * (high - low)))
            for share in ((0.0, 0.5, 1.0) if len(cuts) > 2 else (0.0, 1.0))
        ),
    )


_WRITTEN: Mapping[str, Callable[[float], str]] = {
    "accuracy": lambda value: f"{100 * value:.0f}",
    "r2": lambda value: f"{value:.2f}".replace("0.", ".", 1),
}
_ENDS: Mapping[str, Callable[[float], str]] = {
    "accuracy": lambda value: f"{100 * value:.0f} %",
    "r2": lambda value: f"{value:.2f}",
}
_TITLES: Mapping[str, Callable[[float], str]] = {
    "accuracy": lambda value: f"accuracy {value:.1%}",
    "r2": lambda value: f"R2 {value:.3f}",
}


def _span(maps: Any) -> tuple[float, float]:
    known = [value for values in maps for line in values for value in line if value is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    # Where all are equal the scale still needs two ends, neither of them above what is possible.
    if high > low:
        return low, high
    return (low, low + _LEAST_SPAN) if low + _LEAST_SPAN <= 1 else (low - _LEAST_SPAN, low)


def _colour(ramp: Sequence[str], share: float) -> tuple[float, ...]:
    """The ramp's colour, channels 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(ramp) - 1)
    first = min(int(place), len(ramp) - 2)
    return tuple(
        (1 - (place - first)) * a + (place - first) * b
        for a, b in zip(_channels(ramp[first]), _channels(ramp[first + 1]), strict=True)
    )


def _channels(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def _hex(colour: Sequence[float]) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour)


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance as WCAG 2 has it, with the power 2.2 for its curve."""
    red, green, blue = (channel**2.2 for channel in colour)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)
