"""The audit's report: what it says, what it must not say, and how a browser takes it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privynet.artifacts import AuditFolder, write_document
from privynet.errors import InputError
from privynet.toolkit.audit_charts import Measured, curves, panel
from privynet.toolkit.audit_report import MEASURES, render_audit, write_audit_report
from privynet.toolkit.pages import MOST_PIXELS, data_uri

from . import audits
from .pages import Page, browse

finite = st.floats(-1e3, 1e3)


def full_page(**options: bool) -> str:
    originals, rebuilt, psnr_db = audits.images()
    return render_audit(
        audits.document(**options), originals=originals, reconstructions=rebuilt, psnr_db=psnr_db
    )


def rows(html: str, table: str) -> dict[str, str]:
    """The visible text of a table's rows, by that of their first cell."""
    inside = html[html.index(f'<table id="{table}"') :]
    inside = inside[: inside.index("</table>")]
    found = re.split("<tr[^>]*>", inside)[1:]
    heads = [" ".join(Page(re.split("</t[hd]>", row)[0]).text.split()) for row in found]
    return dict(zip(heads, (" ".join(Page(row).text.split()) for row in found), strict=True))


def test_every_attack_stands_in_the_table_with_what_it_recovered_and_knew() -> None:
    html, document = full_page(), audits.document()
    recovered, knew = rows(html, "recovered"), rows(html, "attackers")
    for attack in document["attacks"]:
        row = recovered[attack["attack"]]
        assert f"{attack['psnr_db']['value']:.1f}" in row
        assert f"1 in 10: {attack['r2']['worst_decile']:.3f}" in row
        assert f"{attack['r2']['ci95'][0]:.3f} to {attack['r2']['ci95'][1]:.3f}" in row
        assert f"{100 * attack['reidentification']['value']:.1f}" in row
        assert "passed: 41.3 dB (needed 30)" in knew[attack["attack"]]
    assert "the encoder itself: its weights and kept channels" in knew["likelihood"]
    assert "time was up" in knew["decoder-residual"] and "nothing improved" in knew["ridge"]
    assert "share of the kept channels found: 0.9375" in knew["unknown-channels"]


def test_attackers_with_pairs_only_stand_apart_from_the_others_and_above_the_floors() -> None:
    order = list(rows(full_page(), "recovered"))
    parts = [order.index(name) for name in order if name.startswith(("Attackers", "Without"))]
    assert len(parts) == 3
    first, second, floors = parts
    assert {"ridge", "decoder-small", "decoder-residual", "decoder-unet"} == set(order[first + 1 : second])
    assert {"likelihood", "likelihood-prior", "substitute", "unknown-channels"} == set(
        order[second + 1 : floors]
    )
    assert order[floors + 1].startswith("Label-only floor") and order[floors + 2].startswith("Blind guess")


def test_what_did_not_run_is_named_with_its_reason() -> None:
    html = full_page()
    assert "the encoder adds no noise" in rows(html, "not-run")["averaging"]


def test_without_noise_it_says_that_no_guarantee_exists() -> None:
    row = rows(full_page(), "bound")["Bound on the error"]
    assert "none" in row and "no guarantee exists without noise" in row


def test_with_noise_each_bound_stands_with_its_assumption() -> None:
    bound = rows(full_page(noise=True), "bound")
    assert "assume nothing about images" in bound["Error of unbiased attackers"]
    assert "at least 0.032" in bound["Error of unbiased attackers"]
    assert "drawn from the prior (Gaussian with" in bound["Error of all attackers"]
    assert "at most 20.9 dB" in bound["Error of all attackers"]


def test_attributes_stand_beside_chance_and_the_raw_images() -> None:
    row = rows(full_page(), "attributes")["gender"]
    for figure in ("81.0 (79.0 to 83.0)", "79.0 (77.0 to 81.0)", "53.0", "93.0 (91.0 to 95.0)"):
        assert figure in row


def test_every_attack_is_a_mark_in_every_panel_and_one_of_them_is_the_strongest() -> None:
    html = full_page()
    panels = html[html.index('id="panels"') : html.index("</figure>")]
    drawn = panels[: panels.index("<figcaption>")]
    assert drawn.count("<svg") == len(MEASURES)
    assert len(re.findall('class="mark ', drawn)) == 8 * len(MEASURES)
    assert len(re.findall('class="mark (?:pairs|more) strongest"', drawn)) == len(MEASURES)


def test_a_page_with_originals_says_so_before_anything_else() -> None:
    html = full_page()
    assert html.index('id="has-originals"') < html.index('id="verdict"') < html.index("<img")
    without = render_audit(audits.document())
    assert "<img" not in without and 'id="no-originals"' in without and 'id="images-left-out"' in without


def test_images_are_the_best_the_middle_and_the_worst_and_a_strip_for_every_attack() -> None:
    originals, rebuilt, psnr_db = audits.images()
    html = full_page()
    best = psnr_db["likelihood-prior"]
    assert f"{best.max():.1f} dB" in html and f"{best.min():.1f} dB" in html
    order = np.argsort(-best, kind="stable")
    for number in (order[0], order[len(order) // 2], order[-1]):
        assert data_uri(originals[number]) in html
        assert data_uri(rebuilt["likelihood-prior"][number]) in html
    images = [attributes for tag, attributes in Page(html).tags if tag == "img"]
    assert len(images) == 3 * 2 * 8 + (1 + 8) * 8
    assert all(attributes.get("alt") for attributes in images)


def test_large_images_are_made_smaller() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    assert len(data_uri(noise)) < 4 * MOST_PIXELS**2 * 3


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
    document = audits.document()
    document["encoder"]["channels"] = [7919, 6101, 7001]
    html = render_audit(document)
    for channel in (7919, 6101, 7001):
        assert str(channel) not in html
    assert "3 kept" in html


def test_tables_have_headers_and_plots_have_names() -> None:
    html = full_page()
    page = Page(html)
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    identifiers = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    plots = [attributes for tag, attributes in page.tags if tag == "svg" and attributes.get("role") == "img"]
    assert plots and all(attributes["aria-labelledby"] in identifiers for attributes in plots)


def test_markup_in_names_is_shown_not_obeyed() -> None:
    document = audits.document()
    document["inputs"]["data"] = "folder:<script>alert(1)</script>"
    document["attributes"][0]["attribute"] = "<img src=x>"
    page = Page(render_audit(document))
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text and "<img src=x>" in page.text


def test_an_encoder_known_by_its_outputs_alone_and_few_measures_make_a_page_too() -> None:
    document = audits.document()
    for name in ("backbone", "cut", "channels", "payload_bits", "payload_bytes", "adapted"):
        del document["encoder"][name]
    for part in (document["strongest"], document["strongest_pairs_only"], *document["attacks"]):
        del part["reidentification_features"], part["classified"]
    document |= {"recogniser": None, "attributes": [], "pairs_curve": [], "dcor": None, "not_run": []}
    document["attacks"][0]["control"] = None
    page = Page(render_audit(document))
    assert "an encoder" in page.text and "not run" in page.text


def test_it_is_written_from_the_audits_folder_for_its_owner_alone(tmp_path: Path) -> None:
    folder = AuditFolder.start(tmp_path / "audit", {"seed": 0})
    with pytest.raises(InputError):
        write_audit_report(folder)
    write_document(folder.result, "audit", audits.document())
    assert 'id="no-originals"' in write_audit_report(folder).read_text()
    originals, rebuilt, psnr_db = audits.images()
    np.savez(folder.originals, images=originals)
    for name, images in rebuilt.items():
        _, arrays = folder.attack(name)
        np.savez(arrays, reconstructions=images, psnr_db=psnr_db[name])
    path = write_audit_report(folder)
    assert path == tmp_path / "audit" / "report.html"
    assert path.read_text() == full_page()
    assert path.stat().st_mode & 0o077 == 0


def measured(name: str, value: float, spread: float) -> Measured:
    return Measured(name, value, value - spread, value + spread, True, False, "")


@given(
    st.lists(st.tuples(finite, st.floats(0, 10)), max_size=9),
    st.lists(finite, max_size=2),
    st.none() | st.just((0.0, 1.0)),
)
def test_every_mark_interval_and_line_lies_inside_its_panel(
    points: list[tuple[float, float]], floors: list[float], span: tuple[float, float] | None
) -> None:
    plot = panel(
        "",
        [measured("a", *point) for point in points],
        [("blind", x, "") for x in floors],
        form="g",
        span=span,
    )
    across = [x for row in plot.whiskers for x in (row.low, row.x, row.high)]
    across += [floor.x for floor in plot.floors] + [tick.at for tick in plot.ticks]
    assert all(plot.left <= x <= plot.right for x in across)
    assert all(plot.top <= row.y <= plot.bottom for row in plot.whiskers)
    assert all(row.low <= row.x <= row.high for row in plot.whiskers)


@given(
    st.lists(
        st.lists(finite, min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_curves_lie_inside_their_plot_and_their_labels_apart(series: list[list[float]]) -> None:
    counts = (100, 1000, 5000, 10_000)
    plot = curves(
        "",
        [
            (str(number), [(counts[at], measured("", value, 1.0)) for at, value in enumerate(values)])
            for number, values in enumerate(series)
        ],
        form="g",
    )
    points = [point for curve in plot.curves for point in curve.points]
    assert all(plot.left <= point.x <= plot.right for point in points)
    assert all(plot.top <= point.high <= point.y <= point.low <= plot.bottom for point in points)
    labels = sorted(curve.label_y for curve in plot.curves)
    assert all(after - before > 14 for before, after in pairwise(labels))


def test_more_is_further_right_and_more_pairs_are_too() -> None:
    low, high = panel("", [measured("a", 1, 0.1), measured("b", 2, 0.1)], [], form="g").whiskers
    assert low.x < high.x and low.y < high.y
    (curve,) = curves("", [("a", [(100, measured("", 1, 0)), (1000, measured("", 2, 0))])], form="g").curves
    assert curve.points[0].x < curve.points[1].x and curve.points[0].y > curve.points[1].y


@pytest.mark.browser
def test_a_browser_shows_it_offline_and_without_complaint(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(full_page(), encoding="utf-8")
    rendered, requests, console = browse(page, tmp_path)
    assert [url for url in requests if not url.startswith("data:")] == []
    assert console == []
    shown = Page(rendered)
    assert sum(tag == "img" for tag, _ in shown.tags) == 120
    assert "What attackers rebuild" in shown.text
