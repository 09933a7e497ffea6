"""The best candidate of each cut."""

from __future__ import annotations

from privynet.toolkit.cut_profile import best_of_cuts, cut_profiles
from privynet.toolkit.trial_rows import evaluated, trial_rows

from . import results


def test_the_best_is_the_most_accurate_inside_the_limits_or_else_the_nearest_to_them() -> None:
    result = results.result()
    rows = evaluated(trial_rows(result))
    best = best_of_cuts(rows, result["limits"])
    # Trials 4 and 9 are both inside; 2 and 14 at the same cut are both over the limit.
    assert best[(0, 32), "blocks.2.2"].number == 4
    assert results.trial(2)["metrics"]["r2"] < results.trial(14)["metrics"]["r2"]
    assert best[(0, 32), "blocks.1.2"].number == 2


def test_cuts_stand_in_the_order_of_the_network_and_those_without_candidates_have_a_place() -> None:
    result = results.result()
    plots = cut_profiles(result, evaluated(trial_rows(result)))
    assert [plot.title for plot in plots] == [
        "bundled:plain8 at 32 pixels",
        "timm:mobilenetv2_100 at 64 pixels",
    ]
    for plot, cuts in zip(plots, results.CUTS.values(), strict=True):
        assert [tick.label for tick in plot.frame.x_ticks] == [name for name, _ in cuts]
        for series in plot.series:
            across = [dot.x for dot in series.dots]
            assert across == sorted(across)
            assert all(plot.frame.top <= dot.y <= plot.frame.bottom for dot in series.dots)
            assert len(series.dots) < len(cuts)


def test_backbones_have_the_same_axis() -> None:
    result = results.result()
    first, second = cut_profiles(result, evaluated(trial_rows(result)))
    assert first.frame.y_ticks == second.frame.y_ticks


def test_without_an_overview_the_cuts_come_from_the_trials() -> None:
    result = {**results.result(), "overview": []}
    plots = cut_profiles(result, evaluated(trial_rows(result)))
    assert {tick.label for tick in plots[0].frame.x_ticks} == {
        *("blocks.0.0", "blocks.0.1", "blocks.0.2", "blocks.1.1", "blocks.1.2"),
        *("blocks.2.0", "blocks.2.1", "blocks.2.2"),
    }


def test_nothing_evaluated_gives_no_plot() -> None:
    assert cut_profiles(results.result(), []) == []
