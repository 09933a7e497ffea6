"""Heat maps over cuts and channels."""

from __future__ import annotations

import pytest

from privynet.toolkit.heat_maps import heat_map, overviews

from . import results


def lightness(fill: str) -> float:
    return sum(int(fill[place : place + 2], 16) for place in (1, 3, 5))


def test_a_cell_for_every_figure_and_none_beyond_the_cuts_channels() -> None:
    pairs = overviews(results.result())
    assert len(pairs) == 2
    for pair, entry in zip(pairs, results.overview(), strict=True):
        known = sum(value is not None for line in entry["r2"] for value in line)
        assert [len(plot.cells) for plot in pair.maps] == [known, known]
        for plot in pair.maps:
            assert all(plot.left <= cell.x <= plot.right - plot.cell_width + 0.2 for cell in plot.cells)
            assert all(cell.y + plot.cell_height <= plot.bottom for cell in plot.cells)


@pytest.mark.parametrize("name", ["accuracy", "r2"])
def test_more_is_darker(name: str) -> None:
    values = [[step / 20 for step in range(21)]]
    plot = heat_map(name, values, ["cut"], list(range(1, 22)), (0.0, 1.0))
    shades = [lightness(cell.fill) for cell in plot.cells]
    assert shades == sorted(shades, reverse=True) and len(set(shades)) == 21


@pytest.mark.parametrize("name", ["accuracy", "r2"])
def test_numbers_stand_out_from_their_cells(name: str) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    values = [[step / 50 for step in range(51)]]
    for cell in heat_map(name, values, ["cut"], list(range(51)), (0.0, 1.0)).cells:
        dark, light = sorted((luminance(cell.fill), luminance(cell.ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.0


def test_numbers_are_left_out_where_they_do_not_fit() -> None:
    few = heat_map("r2", [[0.5] * 10], ["cut"], list(range(10)), (0.0, 1.0))
    many = heat_map("r2", [[0.5] * 60], ["cut"], list(range(60)), (0.0, 1.0))
    assert {cell.text for cell in few.cells} == {".50"}
    assert {cell.text for cell in many.cells} == {""}
    assert many.width < 960


def test_negative_and_full_figures_are_written_as_they_are() -> None:
    plot = heat_map("r2", [[-0.04, 1.0, 0.07]], ["cut"], [1, 2, 3], (-0.04, 1.0))
    assert [cell.text for cell in plot.cells] == ["-.04", "1.00", ".07"]


def test_all_pairs_share_one_scale() -> None:
    first, second = overviews(results.result())
    assert first.maps[0].bar_ticks[0].label == second.maps[0].bar_ticks[0].label
    assert first.calibrated and not second.calibrated


def test_equal_figures_everywhere_have_a_colour() -> None:
    result = results.result()
    for entry in result["overview"]:
        entry["r2"] = [[None if value is None else 0.5 for value in line] for line in entry["r2"]]
    assert {cell.fill for cell in overviews(result)[0].maps[1].cells} == {"#fdf1e4"}
