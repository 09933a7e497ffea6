"""The report page: what it says, what it must not say, and how a browser takes it."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from privynet.artifacts import RunFolder, write_document
from privynet.toolkit.report import render, write_report

from . import results
from .pages import Page, browse


def full_page() -> str:
    return render(
        results.result(),
        bench=results.bench(),
        evaluation={"accuracy": results.score(0.955)},
        images=results.images(),
    )


def table(html: str, name: str) -> list[str]:
    """The visible text of a table's rows, its head first."""
    inside = html[html.index(f'<table id="{name}"') :]
    inside = inside[: inside.index("</table>")]
    return [" ".join(Page(row).text.split()) for row in re.split("<tr[^>]*>", inside)[1:]]


def test_every_evaluated_candidate_is_a_mark_with_its_policy_and_stage() -> None:
    page = Page(full_page())
    marks = page.dots()
    # Of 20 trials 3 ended at their costs, and one was there before.
    assert len(marks) == 16
    assert [mark for mark in marks if "chosen" in mark] == ["dot certified leak-prune chosen"]
    assert sum("certified" in mark for mark in marks) == 5
    assert {mark.split()[2] for mark in marks} == {
        *("random", "fisher", "leak-prune", "joint", "projection", "adversarial")
    }
    assert "trial 0, trained: blocks.0.2" in page.text
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
    result["backbones"][1] = "<b onclick=x>"
    result["trial_table"][0]["cut"] = "<img src=x>"
    result["overview"][0]["cuts"][2] = "<img src=x>"
    page = Page(render(result))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert "onclick" not in {name for _, attributes in page.tags for name in attributes}
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x>" in page.text and "<b onclick=x>" in page.text


def test_measured_and_predicted_latency_are_told_apart() -> None:
    text = " ".join(Page(full_page()).text.split())
    assert "Measured Test CPU <3 GHz>, 2 threads 1.2 ms" in text
    assert "900; not valid" in text
    predicted = "Raspberry Pi Zero 2 W, 4 threads 6 ms 3.4 to 9.3 ms expected not run there"
    assert f"Predicted (estimated) {predicted}" in text
    assert "predicted (estimated), 3.4 to 9.3 ms; not measured there" in text
    assert "The prediction comes from published figures of other networks on this device" in text


def test_a_prediction_by_a_calibrated_profile_is_not_called_estimated() -> None:
    result = results.result()
    result["predicted_ms"]["estimated"] = False
    text = " ".join(Page(render(result, bench=results.bench())).text.split())
    assert "Predicted Raspberry Pi Zero 2 W, 4 threads 6 ms" in text
    assert "predicted, 3.4 to 9.3 ms; not measured there" in text
    assert "The prediction comes from the times of other networks, measured on this device" in text
    assert "(estimated)" not in text and "published figures" not in text


def test_limits_have_their_sources_and_what_more_of_the_binding_one_would_buy() -> None:
    text = " ".join(Page(full_page()).text.split())
    assert "9.3 of 50 ms (profile)" in text
    assert "0.565 of 0.6 (user)" in text
    assert (
        "r2 binds: with 20 % more of it, 0.72, an estimated accuracy of 93.0 %, 1.2 points more (trial 2)"
        in text
    )


def test_a_limit_whose_relaxing_buys_nothing_is_said_to() -> None:
    result = results.result()
    result["relaxed"]["r2"] = {"limit": 0.72, "accuracy": 0.91, "gain": 0.0, "trial": None}
    text = " ".join(Page(render(result)).text.split())
    assert "with 20 % more of it, 0.72, none of the evaluated candidates is more accurate" in text


def test_every_certified_candidate_stands_with_what_was_predicted_and_found() -> None:
    _, *rows = table(full_page(), "certified")
    assert len(rows) == len(results.CERTIFIED)
    for row, number in zip(rows, results.CERTIFIED, strict=True):
        one = results.certification(number)
        predicted, found = one["predicted"], one["privacy_loss"]["r2"]
        assert row.startswith(f"{number} ")
        assert f"{predicted['r2']['value']:.3f}" in row and f"{found['value']:.3f}" in row
        assert f"{100 * one['utility']['ci95'][0]:.1f} % to {100 * one['utility']['ci95'][1]:.1f} %" in row
        assert ("over r2" in row) == bool(one["violated"])
    assert rows[0].endswith("chosen")


def test_each_trial_has_its_stage_figures_and_seconds() -> None:
    _, *rows = table(full_page(), "trials")
    assert len(rows) == 20
    assert rows[0].startswith("0 trained bundled:plain8, blocks.0.2 at 32, 16 by fisher")
    assert rows[0].endswith("over r2 13.2")
    assert rows[3].startswith("3 costs") and rows[3].endswith("over latency_ms -")
    assert "leak-prune 0.22, noise 0.1, 8 bits" in rows[12] and rows[12].startswith("12 certified")
    estimate = results.trial(8)["estimates"]["r2"]
    low, high = (estimate["value"] + sign * estimate["error"] for sign in (-1, 1))
    assert f"{estimate['value']:.3f} {low:.3f} to {high:.3f}" in rows[8]
    assert "as trial 2" in rows[16]


def test_trials_are_counted_by_stage_and_the_seconds_told() -> None:
    html = full_page()
    _, *stages = table(html, "stages")
    assert stages == [
        "costs alone 3 -",
        "closed forms 5 0.021",
        "amortised networks 1 0.259",
        "networks trained for it 5 13.2",
        "certified 5 13.2",
        "repeated, taken from the first 1 -",
    ]
    _, *parts = table(html, "wall")
    assert parts == ["whole 212.5", "characterisation 61.0", "trials 93.2", "certification 55.1"]


def test_heat_maps_say_whether_they_are_calibrated() -> None:
    text = " ".join(Page(full_page()).text.split())
    assert "bundled:plain8 at 32 pixels, calibrated on trained networks" in text
    assert "timm:mobilenetv2_100 at 64 pixels, not calibrated" in text


def test_importance_needs_enough_candidates() -> None:
    assert 'id="importance"' in full_page()
    few = render(results.result(feasible=False))
    assert 'id="importance"' not in few and 'id="no-importance"' in few


def test_nothing_feasible_names_what_stands_in_the_way_and_the_nearest_misses() -> None:
    html = render(results.result(feasible=False))
    page = Page(html)
    assert "No trial is within all limits" in page.text
    assert "What stands in the way: r2" in page.text
    assert len(page.dots()) == 4 and all("over" in mark for mark in page.dots())
    _, *rows = table(html, "nearest")
    assert rows[0] == "0 bundled:plain8 blocks.0.2 16 fisher r2 0.828 > 0.2"
    assert 'id="nothing-certified"' in html


def test_a_search_that_evaluated_nothing_has_a_page() -> None:
    result = results.result(feasible=False)
    result["trial_table"] = [row for row in result["trial_table"] if row["stage"] == "costs"]
    result |= {"nearest": [], "overview": [], "binding": []}
    page = Page(render(result))
    assert page.dots() == []
    assert "No candidate was evaluated" in page.text


def test_a_mixing_is_called_one() -> None:
    result = results.result()
    result["encoder"]["projection"] = {"outputs": 5, "method": "eigen", "digest": "b" * 64}
    assert "5 mixtures of 3 channels (leak-prune 0.45)" in " ".join(Page(render(result)).text.split())


def test_the_chosen_candidate_is_found_by_what_it_is_and_not_by_its_number() -> None:
    result = results.result()
    # The study may know the chosen candidate by a later trial of the same.
    again: Mapping[str, Any] = {**results.trial(4), "number": 20, "repeats": 4}
    result["trial_table"].append(again)
    result["trial"] = result["certifications"][0]["trial"] = 20
    assert sum("chosen" in mark for mark in Page(render(result)).dots()) == 1


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, {})
    write_document(run.result, "search-result", results.result())
    page = write_report(run)
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert 'id="front"' in page.read_text(encoding="utf-8")


@pytest.mark.browser
def test_a_browser_shows_it_offline_and_without_complaint(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(full_page(), encoding="utf-8")
    rendered, requests, console = browse(page, tmp_path)
    assert [url for url in requests if not url.startswith("data:")] == []
    assert console == []
    shown = Page(rendered)
    assert len(shown.dots()) == 16
    assert sum(tag == "img" for tag, _ in shown.tags) == 36
    assert "An encoder for Raspberry Pi Zero 2 W" in shown.text


@pytest.mark.browser
def test_the_browser_would_have_told(tmp_path: Path) -> None:
    page = tmp_path / "control.html"
    page.write_text('<img src="http://control.invalid/x.png"><script>console.error("oops")</script>')
    _, requests, console = browse(page, tmp_path)
    assert requests == ["http://control.invalid/x.png"]
    assert len(console) == 1 and "oops" in console[0]
