"""Predicted against certified."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privynet.toolkit.agreement import Measure, agreement, certifications, kept

from . import results

share = st.floats(0.0, 1.0)


def certified(*pairs: tuple[float, float, float]) -> dict[str, Any]:
    """A result with candidates of (predicted, its error, found), the same for accuracy and for r2."""
    made = []
    for number, (predicted, error, found) in enumerate(pairs):
        one = results.certification(4)
        estimate = {"value": predicted, "error": error}
        one |= {"trial": number, "predicted": {"accuracy": estimate, "r2": estimate}}
        one |= {"utility": results.score(found), "privacy_loss": {"r2": results.score(found)}}
        made.append(one)
    return {"certifications": made}


@pytest.mark.parametrize("measure", ["accuracy", "r2"])
@given(pairs=st.lists(st.tuples(share, st.floats(0, 0.3), share), min_size=1, max_size=8))
def test_marks_lie_inside_and_on_the_side_of_the_diagonal_that_they_belong_to(
    measure: Measure, pairs: list[tuple[float, float, float]]
) -> None:
    plot = agreement(measure, certifications(certified(*pairs)))
    assert plot is not None
    frame = plot.frame
    for (predicted, _, found), point in zip(pairs, plot.points, strict=True):
        assert frame.left <= point.x_low <= point.x <= point.x_high <= frame.right
        assert frame.top <= point.y_high <= point.y <= point.y_low <= frame.bottom
        across = (point.x - frame.left) / (frame.right - frame.left)
        up = (frame.bottom - point.y) / (frame.bottom - frame.top)
        if abs(found - predicted) > 0.01:
            assert (up > across) == (found > predicted)


def test_labels_do_not_cover_each_other() -> None:
    near = [(0.5 + 0.02 * step, 0.0, 0.5 + 0.02 * step) for step in range(5)]
    plot = agreement("r2", certifications(certified((0.0, 0.0, 0.0), *near, (1.0, 0.0, 1.0))))
    assert plot is not None
    places = [(point.label_x, point.label_y) for point in plot.points]
    assert all(
        abs(x - other_x) >= 9 or abs(y - other_y) >= 12
        for index, (x, y) in enumerate(places)
        for other_x, other_y in places[:index]
    )


def test_the_safe_side_of_accuracy_is_above_and_of_privacy_loss_below() -> None:
    found = certifications(certified((0.5, 0.1, 0.45), (0.5, 0.1, 0.3), (0.5, 0.1, 0.7)))
    accuracy, r2 = kept("accuracy", found), kept("r2", found)
    assert accuracy is not None and (accuracy.kept, accuracy.of) == (2, 3)
    assert r2 is not None and (r2.kept, r2.of) == (2, 3)
    assert r2.mean_difference == pytest.approx((-0.05 - 0.2 + 0.2) / 3)


def test_without_predictions_there_is_no_plot() -> None:
    result = certified((0.5, 0.1, 0.5))
    result["certifications"][0]["predicted"] = {}
    found = certifications(result)
    assert agreement("r2", found) is None and kept("r2", found) is None
    assert found[0].r2.predicted is None and found[0].r2.difference is None
