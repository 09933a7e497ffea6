"""The front: accuracy against privacy loss of every candidate that was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .charts import Frame, framed, number_label, percent_label
from .trial_rows import Level, Row

POLICIES = ("random", "fisher", "leak-prune", "joint", "projection", "adversarial")
"""Each has a colour of its own in the page's style; others share one."""

_AREA = Frame(width=720, height=464, left=88, right=700, top=48, bottom=408)
_LABELS_APART = 170
"""Lines nearer to each other have their labels above each other."""
_ORDER: dict[Level, int] = {"costs": 0, "estimated": 1, "trained": 2, "certified": 3}


@dataclass(frozen=True)
class Mark:
    """One candidate. ``before``: where the search had it, when it was certified since."""

    x: float
    y: float
    level: Level
    policy: str
    """One of ``POLICIES``, or ``other``."""
    inside: bool
    """Within all limits."""
    chosen: bool
    title: str
    before: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """A vertical line with its label, at ``label_y``; ``anchor`` is the label's SVG text-anchor."""

    x: float
    label: str
    label_y: float
    anchor: Literal["start", "end"]


@dataclass(frozen=True)
class Front:
    """Accuracy (up) against privacy loss (right)."""

    frame: Frame
    marks: tuple[Mark, ...]
    path: str
    """Through the candidates that no other one beats in both, as an SVG polyline's ``points``."""
    limit: Line | None
    floor: Line | None
    policies: tuple[str, ...]
    """Those that occur."""


def front(rows: Sequence[Row], *, limit: float | None, floor: float | None) -> Front:
    """The plot of evaluated candidates; ``limit`` is that on r2, ``floor`` the label-only r2.

    Privacy loss counts at its upper end, as it is held against the limit.
    """
    points = [_point(row) for row in rows]
    earlier = [_before(row) for row in rows]
    shown = [*points, *(point for point in earlier if point is not None)]
    lines = [value for value in (limit, floor) if value is not None]
    frame = framed(
        _AREA,
        [*(across for across, _ in shown), *lines],
        [up for _, up in shown],
        x_label=number_label,
        y_label=percent_label,
    )

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return frame.x(point[0]), frame.y(point[1])

    def line(value: float | None, label: str, label_y: float) -> Line | None:
        if value is None:
            return None
        at = frame.x(value)
        middle = (frame.left + frame.right) / 2
        return Line(at, f"{label} {value:.2f}", label_y, "end" if at > middle else "start")

    marks = [
        Mark(
            *place(point),
            level=row.level,
            policy=policy_of(row),
            inside=not row.violated,
            chosen=row.chosen,
            title=_title(row),
            before=None if before is None else place(before),
        )
        for row, point, before in zip(rows, points, earlier, strict=True)
    ]
    best = sorted(points[index] for index in non_dominated(points))
    apart = limit is None or floor is None or abs(frame.x(limit) - frame.x(floor)) > _LABELS_APART
    return Front(
        frame=frame,
        # The surest last, so that nothing hides them.
        marks=tuple(sorted(marks, key=lambda mark: (mark.chosen, _ORDER[mark.level]))),
        path=" ".join(f"{x},{y}" for x, y in map(place, best)),
        limit=line(limit, "limit", frame.top - 12),
        floor=line(floor, "label only", frame.top - (12 if apart else 30)),
        policies=tuple(name for name in (*POLICIES, "other") if any(mark.policy == name for mark in marks)),
    )


def non_dominated(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of (privacy loss, accuracy) than which no other has less loss and no less accuracy, or as
    little and more; of equal ones the first."""
    kept: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if points[index][1] > best:
            best = points[index][1]
            kept.append(index)
    return kept


def policy_of(row: Row) -> str:
    """The policy whose colour a candidate has."""
    policy = str(row.document["policy"])
    return policy if policy in POLICIES else "other"


def _point(row: Row) -> tuple[float, float]:
    return row.figures["r2"].high, row.figures["accuracy"].value


def _before(row: Row) -> tuple[float, float] | None:
    return (row.predicted["r2"].high, row.predicted["accuracy"].value) if row.found else None


def _title(row: Row) -> str:
    accuracy, loss = row.figures["accuracy"], row.figures["r2"]
    upper = "" if loss.exact else f" (at most {loss.high:.3f})"
    missed = f"; over its limit: {', '.join(row.violated)}" if row.violated else ""
    return (
        f"trial {row.number}, {row.stage}: {row.candidate}; accuracy {accuracy.value:.1%}, "
        f"R2 {loss.value:.3f}{upper}{missed}"
    )
