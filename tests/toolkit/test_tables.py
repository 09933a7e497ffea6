"""What a search prints in the end."""

from __future__ import annotations

from typing import Any

import pytest

from privynet.toolkit.console import Screen
from privynet.toolkit.tables import search_tables

from . import results


def printed(result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines, with single spaces."""
    Screen(as_json=False).show(result, search_tables)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_the_chosen_encoder_and_its_limits(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(results.result(), capsys)
    assert lines[0].startswith("20 trials: 17 evaluated (8 with networks of their own), 3 ended early")
    assert lines[0].endswith("3 of 5 certified within them")
    assert lines[1] == (
        "encoder: bundled:plain8 at 32 pixels, cut blocks.2.2, 3 channels kept (leak-prune 0.45)"
    )
    assert lines[2].startswith("utility (top-1 accuracy, mean of 3 heads): 87.0%")
    assert "r2 0.565 0.6 94% user binds" in lines
    assert (
        "r2 binds: with 20 % more of it, 0.72, an estimated accuracy of 93.0 %, 1.2 points more (trial 2)"
        in lines
    )


def test_the_certified_ones_as_predicted_and_as_found(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(results.result(), capsys)
    assert (
        "12 blocks.2.1 32 leak-prune 0.22 86.4% ± 1.4% 86.8% (85.8% to 87.8%) 0.596 ± 0.025 "
        "0.608 (0.598 to 0.618) over r2"
    ) in lines
    assert any(line.startswith("4 blocks.2.2 24") and line.endswith("chosen") for line in lines)


def test_the_runners_up_with_how_sure_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(results.result(), capsys)
    after = lines[lines.index("runners-up, inside all limits:") :]
    assert any(line.startswith("9 certified bundled:plain8 blocks.2.2 16 joint 5.3 82.2%") for line in after)


def test_nothing_feasible_shows_the_nearest_misses(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(results.result(feasible=False), capsys)
    assert "nothing is within all limits; what binds: r2" in lines
    assert "0 bundled:plain8 blocks.0.2 16 fisher r2 0.828 > 0.2" in lines
    assert not any("certified" in line for line in lines)


def test_no_line_of_a_table_is_wider_than_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Screen(as_json=False).show(results.result(), search_tables)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 160


def test_it_never_names_the_kept_channels(capsys: pytest.CaptureFixture[str]) -> None:
    lines = " ".join(printed(results.result(), capsys))
    assert not any(str(channel) in lines for channel in results.result()["encoder"]["channels"])
