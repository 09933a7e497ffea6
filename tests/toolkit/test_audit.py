"""``privynet audit`` from the command line: what it keeps, how it goes on, and what it refuses."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privynet.artifacts import RunFolder
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone

from .conftest import Outcome, run_process, tree

Run = Callable[..., Outcome]

WEIGHTS = ("--weights", "random")
SMALL = (
    *("--data", "npz:images.npz", "--image-size", "16", "--pairs", "100", "--test-images", "60"),
    *("--budget", "1", "--no-control", "--attack", "decoder-residual"),
)

_IMAGES = 540


def write_images(path: Path, n: int, **attributes: Any) -> None:
    """Smooth images of 16 pixels in two classes, light above and light below."""
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 200, (n, 2, 2, 3))
    labels = np.arange(n) % 2
    corners[np.arange(n), labels] += 55
    shares = np.linspace(0, 1, 16)
    weights = np.stack([1 - shares, shares])
    images = np.einsum("ncdk,ci,dj->nijk", corners, weights, weights).astype(np.uint8)
    np.savez(path, images=images, labels=labels, **attributes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``spec/encoder.json``, ``artifact`` and image sets; the weights are those of ``--weights random``."""
    made = tmp_path_factory.mktemp("audit")
    splitter = Splitter(load_backbone(parse_backbone("bundled", weights="random")), 16)
    (made / "spec").mkdir()
    make_encoder(splitter, cut="blocks.1.2", channels=[3, 5, 6, 7]).spec.write(made / "spec" / "encoder.json")
    sides = np.where(np.arange(_IMAGES) % 7 < 3, "left", "right")
    write_images(made / "images.npz", _IMAGES, attribute_side=sides)
    write_images(made / "plain.npz", _IMAGES)
    write_images(made / "few.npz", 40)
    shown = run_process(["export", "spec/encoder.json", *WEIGHTS, "--out", "artifact"], cwd=made)
    assert shown.code == 0, shown.err
    return made


@pytest.fixture(scope="module")
def finished(folder: Path) -> Outcome:
    """An audit of the spec, in ``spec/encoder-audit``, with all that is shown of it."""
    shown = run_process(["audit", "spec/encoder.json", *WEIGHTS, *SMALL], cwd=folder)
    assert shown.code == 0, shown.err
    return shown


@pytest.fixture
def here(folder: Path, finished: Outcome, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_it_prints_the_strongest_attack_the_floors_the_attributes_and_the_report(finished: Outcome) -> None:
    first, *lines = finished.out.splitlines()
    assert first.startswith("Measured. The strongest of 1 attack that ran, decoder-residual, rebuilt")
    text = "\n".join(lines)
    parts = ("strongest attack", "pairs only", "label only", "blind guess", "private attribute", "side")
    places = [text.index(part) for part in (*parts, "distance correlation", "bound: none", "warning:")]
    assert places == sorted(places)
    assert lines[-2:] == [
        "a measurement, not a guarantee: another attacker may recover more",
        "report: spec/encoder-audit/report.html",
    ]


def test_the_folder_is_its_owners_and_holds_document_images_and_report(here: Path) -> None:
    audit = here / "spec" / "encoder-audit"
    assert stat.S_IMODE(audit.stat().st_mode) == 0o700
    for name in ("audit.json", "report.html", "originals.npz"):
        assert stat.S_IMODE((audit / name).stat().st_mode) == 0o600
    html = (audit / "report.html").read_text(encoding="utf-8")
    assert 'id="has-originals"' in html and "<img" in html


def test_the_document_names_every_key_of_the_contract(here: Path, privynet: Run) -> None:
    shown = privynet("audit", "spec/encoder.json", *WEIGHTS, *SMALL, "--json")
    result = shown.json
    assert {
        *("verdict", "strongest", "strongest_pairs_only", "blind", "label_only", "attacks", "not_run"),
        *("attributes", "pairs_curve", "recogniser", "dcor", "bound", "encoder", "n", "seed", "budget_s"),
        *("inputs", "warnings", "audit", "report", "schema_version", "tool_version"),
    } <= result.keys()
    assert {"psnr_db", "ssim", "r2", "reidentification"} <= result["strongest"].keys()
    assert result["encoder"]["channels"] == 4
    assert result["n"] == {"train": 100, "val": result["n"]["val"], "test": 60}
    assert {"data", "data_digest", "encoder_digest", "split"} <= result["inputs"].keys()
    assert [entry["attribute"] for entry in result["attributes"]] == ["side"]


def test_the_same_command_again_prints_the_finished_audit(
    here: Path, finished: Outcome, privynet: Run
) -> None:
    audit = here / "spec" / "encoder-audit"
    before = (audit / "audit.json").stat().st_mtime_ns
    again = privynet("audit", "spec/encoder.json", *WEIGHTS, *SMALL)
    assert (again.code, again.out) == (0, finished.out)
    assert (audit / "audit.json").stat().st_mtime_ns == before


def test_an_unfinished_audit_keeps_its_finished_attacks(here: Path, privynet: Run) -> None:
    audit = shutil.copytree(here / "spec" / "encoder-audit", here / "unfinished")
    document = json.loads((audit / "audit.json").read_text())
    (audit / "audit.json").unlink()
    (audit / "report.html").unlink()
    kept = audit / "attacks" / "decoder-residual.npz"
    before = kept.stat().st_mtime_ns
    shown = privynet("audit", "spec/encoder.json", *WEIGHTS, *SMALL, "--out", "unfinished")
    assert shown.code == 0, shown.err
    assert kept.stat().st_mtime_ns == before
    assert json.loads((audit / "audit.json").read_text()) == document
    assert (audit / "report.html").exists()


def test_other_settings_with_the_same_out_are_refused(here: Path, privynet: Run) -> None:
    before = tree(here)
    line = ("audit", "spec/encoder.json", *WEIGHTS, *SMALL)
    assert "other settings (pairs)" in privynet(*line, "--pairs", "90").error
    assert "other settings (seed)" in privynet(*line, "--seed", "1").error
    assert "other settings (images)" in privynet(*line, "--no-images").error
    other = privynet(*line, "--out", "spec")
    assert other.code == 2 and "spec" in other.error
    assert tree(here) == before


def test_an_inconclusive_audit_is_exit_code_3(here: Path, privynet: Run) -> None:
    audit = shutil.copytree(here / "spec" / "encoder-audit", here / "inconclusive")
    document = json.loads((audit / "audit.json").read_text())
    (audit / "audit.json").write_text(json.dumps({**document, "verdict": "inconclusive"}))
    shown = privynet("audit", "spec/encoder.json", *WEIGHTS, *SMALL, "--out", "inconclusive")
    assert shown.code == 3
    assert shown.out.startswith("Inconclusive.")


def test_an_artifact_is_attacked_as_exported_and_without_images_when_so_asked(
    here: Path, privynet: Run
) -> None:
    shown = privynet("audit", "artifact", *SMALL, "--data", "npz:plain.npz", "--no-images", "--json")
    assert shown.code == 0, shown.err
    result = shown.json
    assert result["audit"] == "artifact-audit"
    manifest = json.loads((here / "artifact" / "manifest.json").read_text())
    assert result["inputs"]["model"] == manifest["files"]["encoder.onnx"]["sha256"]
    assert result["inputs"]["encoder_digest"] == manifest["spec_digest"]
    assert not (here / "artifact-audit" / "originals.npz").exists()
    html = (here / "artifact-audit" / "report.html").read_text(encoding="utf-8")
    assert "<img" not in html and 'id="no-originals"' in html


def test_the_audit_of_a_run_lies_in_the_run(here: Path, privynet: Run) -> None:
    run = RunFolder.create(here / "run", {})
    missing = privynet("audit", "run", *WEIGHTS, *SMALL)
    assert missing.code == 2 and "run has no encoder" in missing.error
    shutil.copy(here / "spec" / "encoder.json", run.spec)
    shown = privynet("audit", "run", *WEIGHTS, *SMALL, "--data", "npz:plain.npz", "--json")
    assert shown.code == 0, shown.err
    assert (shown.json["audit"], shown.json["report"]) == ("run/audit", "run/audit/report.html")
    assert shown.json["attributes"] == []


def test_a_folder_a_missing_path_and_another_file_are_no_subjects(here: Path, privynet: Run) -> None:
    for subject in ("spec", "nope", "images.npz"):
        shown = privynet("audit", subject, *SMALL)
        assert shown.code == 2 and subject in shown.error


def test_a_damaged_artifact_is_an_honest_negative(here: Path, privynet: Run) -> None:
    damaged = shutil.copytree(here / "artifact", here / "damaged")
    with (damaged / "encoder.onnx").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\xff\x00\xff")
    shown = privynet("audit", "damaged", *SMALL)
    assert shown.code == 3 and "damaged fails its check" in shown.error
    assert not (here / "damaged-audit").exists()


CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "an unknown attack": (("--attack", "decoder-residuel"), "did you mean decoder-residual?"),
    "an unknown attribute": (("--attribute", "sid"), "unknown attribute 'sid'; did you mean side?"),
    "attributes that are missing": (
        ("--data", "npz:few.npz", "--attribute", "side"),
        "npz:few.npz has no attributes, 'side' was asked for",
    ),
    "too few images": (("--data", "npz:few.npz"), "few.npz"),
    "too few pairs": (("--pairs", "10"), "10 images"),
    "too few test images": (("--test-images", "3"), "3 images"),
    "no captures": (("--captures", "0"), "'--captures'"),
    "a split that is for training": (("--split", "head-train"), "'--split'"),
    "an auxiliary source that is none": (("--auxiliary", "npz:nope.npz"), "nope.npz"),
    "weights of another network": (("--weights", "nope.pt"), "nope.pt"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(here: Path, privynet: Run, case: str) -> None:
    arguments, told = CASES[case]
    before = tree(here)
    shown = privynet("audit", "spec/encoder.json", *WEIGHTS, *SMALL, "--out", "new", *arguments)
    assert shown.code == 2 and told in shown.error
    assert shown.out == ""
    assert tree(here) == before


def test_an_attack_that_cannot_run_says_what_would_let_it(here: Path, privynet: Run) -> None:
    before = tree(here)
    # "random" is not what the spec without weights stands for
    shown = privynet("audit", "artifact", "--data", "npz:images.npz", "--attack", "likelihood")
    assert shown.code == 2
    assert "likelihood cannot run: it needs to know the encoder itself" in shown.error
    assert shown.error.endswith("give the backbone's weights with --weights")
    shown = privynet("audit", "artifact", *WEIGHTS, "--data", "npz:images.npz", "--attack", "averaging")
    assert shown.code == 2 and "averaging cannot run" in shown.error and "adds no noise" in shown.error
    assert tree(here) == before


def test_weights_given_for_an_artifact_must_be_the_right_ones(here: Path, privynet: Run) -> None:
    shown = privynet("audit", "artifact", *SMALL, "--weights", "nope.pt", "--out", "new")
    assert shown.code == 2 and "nope.pt" in shown.error
