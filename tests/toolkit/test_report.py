"""The report page: what it says, what it must not say, and how a browser takes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privynet.toolkit.charts import Trial, scatter
from privynet.toolkit.report import render

from . import results
from .pages import Page, browse

finite = st.floats(-1e3, 1e3)


def full_page() -> str:
    return render(
        results.result(),
        bench=results.bench(),
        evaluation={"accuracy": results.score(0.955)},
        images=results.images(),
    )


def test_every_evaluated_trial_is_a_dot_and_the_chosen_one_is_marked() -> None:
    page = Page(full_page())
    assert sorted(page.dots()) == ["dot chosen", "dot feasible", "dot infeasible"]
    assert "trial 0: blocks.0.2" in page.text
    assert "over its limit: r2" in page.text


def test_it_fetches_nothing_and_runs_nothing() -> None:
    html = full_page()
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    sources = [
        attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes
    ]
    assert sources and all(str(source).startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?:|url\(|@import", html)


def test_it_never_names_the_kept_channels() -> None:
    html = full_page()
    for channel in results.result()["encoder"]["channels"]:
        assert str(channel) not in re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", html)


def test_a_page_with_originals_says_so_before_anything_else() -> None:
    with_images = full_page()
    assert with_images.index('id="has-originals"') < with_images.index('id="summary"')
    without = render(results.result(), bench=results.bench())
    assert 'id="has-originals"' not in without and "<img" not in without
    assert 'id="images-left-out"' in without


def test_markup_in_names_is_shown_not_obeyed() -> None:
    result = results.result()
    result["data"]["name"] = "folder:<script>alert(1)</script>"
    result["trial_table"][0]["cut"] = "<img src=x>"
    page = Page(render(result))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x>" in page.text


def test_measured_and_predicted_latency_are_told_apart() -> None:
    text = " ".join(Page(full_page()).text.split())
    assert "Measured Test CPU <3 GHz>, 2 threads 1.2 ms" in text
    assert "900; not valid" in text
    assert "Predicted (estimated) Raspberry Pi Zero 2 W 6 ms 3.4 to 9.3 ms expected not run there" in text


def test_nothing_feasible_names_what_stands_in_the_way() -> None:
    page = Page(render(results.result(feasible=False)))
    assert "No trial is within all limits" in page.text
    assert "What stands in the way: r2" in page.text
    assert page.dots() == ["dot infeasible"]


@given(st.lists(st.tuples(finite, finite), max_size=8), st.none() | finite, st.none() | st.floats(-1, 1))
def test_every_dot_tick_and_line_lies_inside_the_plot(
    points: list[tuple[float, float]], limit: float | None, floor: float | None
) -> None:
    plot = scatter([Trial(x, y, "feasible", "") for x, y in points], limit=limit, floor=floor)
    lines = [line for line in (plot.limit, plot.floor) if line is not None]
    across = [*(dot.x for dot in plot.dots), *(tick.at for tick in plot.x_ticks), *(line.x for line in lines)]
    down = [*(dot.y for dot in plot.dots), *(tick.at for tick in plot.y_ticks)]
    assert all(plot.left <= x <= plot.right for x in across)
    assert all(plot.top <= y <= plot.bottom for y in down)
    assert 2 <= len(plot.x_ticks) <= 9 and 2 <= len(plot.y_ticks) <= 9


def test_more_accurate_is_higher_and_more_leaking_is_further_right() -> None:
    plot = scatter(
        [Trial(0.2, 0.5, "feasible", "low"), Trial(0.7, 0.9, "feasible", "high")], limit=0.5, floor=None
    )
    low, high = plot.dots
    assert low.x < high.x and low.y > high.y
    assert plot.limit is not None and low.x < plot.limit.x < high.x


@pytest.mark.browser
def test_a_browser_shows_it_offline_and_without_complaint(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(full_page(), encoding="utf-8")
    rendered, requests, console = browse(page, tmp_path)
    assert [url for url in requests if not url.startswith("data:")] == []
    assert console == []
    shown = Page(rendered)
    assert len(shown.dots()) == 3
    assert sum(tag == "img" for tag, _ in shown.tags) == 36
    assert "An encoder for Raspberry Pi Zero 2 W" in shown.text


@pytest.mark.browser
def test_the_browser_would_have_told(tmp_path: Path) -> None:
    page = tmp_path / "control.html"
    page.write_text('<img src="http://control.invalid/x.png"><script>console.error("oops")</script>')
    _, requests, console = browse(page, tmp_path)
    assert requests == ["http://control.invalid/x.png"]
    assert len(console) == 1 and "oops" in console[0]
