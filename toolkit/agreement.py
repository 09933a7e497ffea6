"""Predicted against certified: how far the search's estimates can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .charts import Frame, Tick, axis, number_label, percent_label
from .trial_rows import Figure

Measure = Literal["accuracy", "r2"]

_AREA = Frame(width=450, height=420, left=72, right=434, top=14, bottom=362)
_LABEL_WIDTH, _LABEL_HEIGHT = 9.0, 14.0
_PLACES = ((9.0, -7.0), (-9.0, -7.0), (9.0, 17.0), (-9.0, 17.0), (9.0, -24.0), (-9.0, 34.0))


@dataclass(frozen=True)
class Compared:
    """One figure of a certified candidate; ``predicted`` is ``None`` where the search had none."""

    predicted: Figure | None
    certified: Figure

    @property
    def difference(self) -> float | None:
        """Certified less predicted."""
        return None if self.predicted is None else self.certified.value - self.predicted.value


@dataclass(frozen=True)
class Certification:
    """A certified candidate as the search had it, and as it was found."""

    trial: int
    accuracy: Compared
    r2: Compared
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """A candidate: across as predicted, up as certified, each with its interval."""

    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    label: str
    label_x: float
    label_y: float
    anchor: Literal["start", "end"]
    title: str


@dataclass(frozen=True)
class Agreement:
    """One measure; both axes show the same range, so on the diagonal both are equal."""

    measure: Measure
    frame: Frame
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Kept:
    """How many candidates kept to the safe side of what was predicted, and how far the values lay apart."""

    measure: Measure
    kept: int
    of: int
    mean_difference: float
    """Certified less predicted."""


def certifications(result: Mapping[str, Any]) -> list[Certification]:
    """Every candidate that was certified, in the order in which they were."""
    return [
        Certification(
            one["trial"],
            Compared(_estimate(one, "accuracy"), Figure.of_score(one["utility"])),
            Compared(_estimate(one, "r2"), Figure.of_score(one["privacy_loss"]["r2"])),
            one,
        )
        for one in result["certifications"]
    ]


def agreement(measure: Measure, certified: Sequence[Certification]) -> Agreement | None:
    """The plot of one measure; ``None`` where nothing was predicted."""
    pairs = _pairs(measure, certified)
    if not pairs:
        return None
    ends = [end for _, predicted, found in pairs for one in (predicted, found) for end in (one.low, one.high)]
    low, high, places = axis(ends)
    label = percent_label if measure == "accuracy" else number_label
    bare = replace(_AREA, x_low=low, x_high=high, y_low=low, y_high=high)
    frame = replace(
        bare,
        x_ticks=tuple(Tick(bare.x(value), label(value)) for value in places),
        y_ticks=tuple(Tick(bare.y(value), label(value)) for value in places),
    )
    marks = [(frame.x(predicted.value), frame.y(found.value)) for _, predicted, found in pairs]
    taken: list[tuple[float, float, float, float]] = [(x - 6, x + 6, y - 6, y + 6) for x, y in marks]
    points = []
    for (trial, predicted, found), (x, y) in zip(pairs, marks, strict=True):
        label_x, label_y, anchor = _label_place(str(trial), x, y, frame, taken)
        points.append(
            Point(
                x=x,
                y=y,
                x_low=frame.x(predicted.low),
                x_high=frame.x(predicted.high),
                y_low=frame.y(found.low),
                y_high=frame.y(found.high),
                label=str(trial),
                label_x=label_x,
                label_y=label_y,
                anchor=anchor,
                title=f"trial {trial}: predicted {_text(predicted)}, certified {_text(found)}",
            )
        )
    return Agreement(measure, frame, tuple(points))


def kept(measure: Measure, certified: Sequence[Certification]) -> Kept | None:
    """Whether accuracy was at least, and privacy loss at most, what the estimates' errors allowed for."""
    pairs = _pairs(measure, certified)
    if not pairs:
        return None
    inside = [
        found.value >= predicted.low if measure == "accuracy" else found.value <= predicted.high
        for _, predicted, found in pairs
    ]
    apart = [found.value - predicted.value for _, predicted, found in pairs]
    return Kept(measure, sum(inside), len(inside), sum(apart) / len(apart))


def _pairs(measure: Measure, certified: Sequence[Certification]) -> list[tuple[int, Figure, Figure]]:
    compared = [(one.trial, one.accuracy if measure == "accuracy" else one.r2) for one in certified]
    return [(trial, one.predicted, one.certified) for trial, one in compared if one.predicted is not None]


def _text(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _estimate(document: Mapping[str, Any], name: str) -> Figure | None:
    predicted = document["predicted"]
    return Figure.of_estimate(predicted[name]) if name in predicted else None


def _label_place(
    text: str, x: float, y: float, frame: Frame, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float, Literal["start", "end"]]:
    """Where a label next to a mark covers no other one, or else above to the right; adds it to ``taken``."""
    width = _LABEL_WIDTH * len(text)
    boxes = []
    for across, down in _PLACES:
        left = x + across if across > 0 else x + across - width
        boxes.append((left, left + width, y + down - _LABEL_HEIGHT, y + down))

    def free(box: tuple[float, float, float, float]) -> bool:
        left, right, top, bottom = box
        inside = frame.left <= left and right <= frame.right and frame.top <= top and bottom <= frame.bottom
        return inside and not any(
            left < other[1] and other[0] < right and top < other[3] and other[2] < bottom for other in taken
        )

    chosen = next((index for index, box in enumerate(boxes) if free(box)), 0)
    taken.append(boxes[chosen])
    across, down = _PLACES[chosen]
    return round(x + across, 1), round(y + down, 1), "start" if across > 0 else "end"
