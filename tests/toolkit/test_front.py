"""The plot of accuracy against privacy loss."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from privynet.toolkit.front import front, non_dominated
from privynet.toolkit.trial_rows import Row, evaluated, trial_rows

from . import results

finite = st.floats(-1e3, 1e3)
points = st.lists(st.tuples(finite, finite), max_size=12)


def row(number: int, r2: float, accuracy: float, *, error: float = 0.0) -> Row:
    document: dict[str, Any] = {
        **results.trial(0),
        "number": number,
        "violated": [],
        "estimates": {
            "accuracy": {"value": accuracy, "error": error},
            "r2": {"value": r2, "error": error},
        },
    }
    return Row(document, found=None, chosen=False)


@given(points, st.none() | finite, st.none() | st.floats(-1, 1))
def test_every_mark_tick_and_line_lies_inside_the_plot(
    pairs: list[tuple[float, float]], limit: float | None, floor: float | None
) -> None:
    plot = front([row(index, *pair) for index, pair in enumerate(pairs)], limit=limit, floor=floor)
    frame = plot.frame
    lines = [line for line in (plot.limit, plot.floor) if line is not None]
    across = [
        *(mark.x for mark in plot.marks),
        *(tick.at for tick in frame.x_ticks),
        *(line.x for line in lines),
    ]
    down = [*(mark.y for mark in plot.marks), *(tick.at for tick in frame.y_ticks)]
    assert all(frame.left <= x <= frame.right for x in across)
    assert all(frame.top <= y <= frame.bottom for y in down)
    assert 2 <= len(frame.x_ticks) <= 9 and 2 <= len(frame.y_ticks) <= 9


def test_more_accurate_is_higher_and_more_leaking_is_further_right() -> None:
    plot = front([row(0, 0.2, 0.5), row(1, 0.7, 0.9)], limit=0.5, floor=None)
    low, high = plot.marks
    assert low.x < high.x and low.y > high.y
    assert plot.limit is not None and low.x < plot.limit.x < high.x


def test_an_estimate_stands_at_the_upper_end_of_its_privacy_loss() -> None:
    plot = front([row(0, 0.4, 0.5, error=0.3)], limit=0.6, floor=None)
    assert plot.limit is not None and plot.marks[0].x > plot.limit.x


@given(points)
def test_the_joined_ones_are_those_that_no_other_beats(pairs: list[tuple[float, float]]) -> None:
    kept = {pairs[index] for index in non_dominated(pairs)}

    def beaten(one: tuple[float, float]) -> bool:
        return any(other != one and other[0] <= one[0] and other[1] >= one[1] for other in pairs)

    assert kept == {one for one in pairs if not beaten(one)}


def test_a_certified_candidate_stands_where_it_was_found_and_remembers_where_it_was() -> None:
    rows = evaluated(trial_rows(results.result()))
    plot = front(rows, limit=results.R2_LIMIT, floor=None)
    certified = [mark for mark in plot.marks if mark.level == "certified"]
    assert len(certified) == len(results.CERTIFIED)
    found = results.certification(9)
    place = plot.frame.x(found["privacy_loss"]["r2"]["ci95"][1])
    before = plot.frame.x(found["predicted"]["r2"]["value"])
    (mark,) = (mark for mark in certified if mark.title.startswith("trial 9,"))
    assert mark.x == place and mark.before is not None and mark.before[0] == before
    assert plot.marks[-1].chosen


def test_an_unknown_policy_has_a_colour_too() -> None:
    one = row(0, 0.4, 0.5)
    plot = front([Row({**one.document, "policy": "other-one"}, None, False)], limit=None, floor=None)
    assert plot.policies == ("other",)
