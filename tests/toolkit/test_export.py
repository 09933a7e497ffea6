"""``privynet export`` from the command line: whose images it reads, and what it has no use for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privynet.artifacts import Artifact, RunFolder, write_document
from privynet.data import open_data
from privynet.encoders import EncoderSpec, Int8, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.toolkit.main import main

from .conftest import Outcome

Run = Callable[..., Outcome]

INT8 = ("--precision", "int8")
FEW = ("--calibration", "24")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``spec.json`` and ``other.json``, a ``head`` of the first, ``int8`` exported from it, ``run`` of it."""
    folder = tmp_path_factory.mktemp("export")
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    make_encoder(splitter, cut="blocks.4.2", channels=range(0, 60, 4)).spec.write(folder / "spec.json")
    make_encoder(splitter, cut="blocks.4.2", channels=range(0, 60, 6)).spec.write(folder / "other.json")
    source, artifact, shards = ("--data", "digits"), folder / "artifact", folder / "shards"
    for line in (
        ["export", folder / "spec.json", "--out", artifact],
        ["encode", artifact, *source, "--split", "head-train", "--out", shards],
        ["train-head", shards, "--max-epochs", "3", "--out", folder / "head"],
        ["export", folder / "spec.json", *INT8, *source, *FEW, "--out", folder / "int8"],
    ):
        assert main([str(argument) for argument in line]) == 0
    run = RunFolder.create(folder / "run", {})
    shutil.copyfile(folder / "spec.json", run.spec)
    write_document(run.result, "search-result", {"data": {"name": "digits"}, "limits": {}})
    return folder


@pytest.fixture(autouse=True)
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "artifact"


def grids(artifact: Path) -> Int8 | None:
    return EncoderSpec.read(artifact / "encoder.json").int8


def selftest_images(artifact: Path) -> np.ndarray:
    with np.load(artifact / "selftest.npz") as archive:
        images: np.ndarray = archive["images"]
    return images


def test_a_run_in_int8_is_calibrated_on_its_own_source(privynet: Run, out: Path, tmp_path: Path) -> None:
    result = privynet("export", "run", *INT8, "--out", out, "--json").json
    assert result["int8"]["images"] == 256 and result["int8"]["score"] is None
    assert Artifact.open(out).manifest.precision == "int8"
    named = tmp_path / "named"
    assert privynet("export", "spec.json", *INT8, "--data", "digits", "--out", named).code == 0
    assert (out / "encoder.onnx").read_bytes() == (named / "encoder.onnx").read_bytes()


def test_a_head_tells_what_int8_costs_and_bounds_it(privynet: Run, out: Path) -> None:
    asked = ("--data", "digits", "--head", "head", "--max-accuracy-loss", "0.05")
    result = privynet("export", "spec.json", *INT8, *FEW, *asked, "--out", out, "--json").json
    score = result["int8"]["score"]
    assert score["float32"] > 0.8 and score["float32"] - score["int8"] <= 0.05
    assert Artifact.open(out).manifest.int8 == result["int8"]
    assert "int8-worse" not in {finding["code"] for finding in result["findings"]}


def test_a_spec_in_int8_keeps_its_grids_whatever_else_its_images_are_for(
    privynet: Run, out: Path, tmp_path: Path
) -> None:
    spec = "int8/encoder.json"
    shown = privynet("export", spec, "--selftest", "data", "--data", "digits", "--out", out)
    assert shown.code == 0 and "on the grids of the spec" in shown.out
    assert grids(out) == grids(Path("int8"))
    wanted = open_data("digits").split("head-train", limit=8).images(32)
    np.testing.assert_array_equal(selftest_images(out), wanted)
    judged = tmp_path / "judged"
    result = privynet("export", spec, "--data", "digits", "--head", "head", "--out", judged, "--json").json
    assert grids(judged) == grids(Path("int8"))
    assert result["int8"]["images"] == 0 and result["int8"]["score"]["int8"] > 0.8


@pytest.mark.parametrize("asked", (INT8, ("--calibration", "256")))
def test_a_spec_in_int8_is_calibrated_anew_when_asked_to(
    asked: tuple[str, str], privynet: Run, out: Path
) -> None:
    line = ("export", "int8/encoder.json", *asked, "--data", "digits", "--out", out, "--json")
    assert privynet(*line).json["int8"]["images"] == 256
    assert grids(out) != grids(Path("int8"))


def test_a_run_s_own_source_is_that_of_its_self_test(privynet: Run, out: Path) -> None:
    result = privynet("export", "run", "--selftest", "data", "--out", out, "--json").json
    assert "real images of digits" in result["findings"][0]["message"]
    wanted = open_data("digits").split("head-train", limit=8).images(32)
    np.testing.assert_array_equal(selftest_images(out), wanted)


def test_images_are_read_at_the_encoder_s_size(privynet: Run, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 48, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(60) % 2)
    source = f"npz:{tmp_path / 'images.npz'}"
    line = ("export", "spec.json", "--data", source, "--selftest", "data", "--out", tmp_path / "out")
    assert privynet(*line).code == 0
    wanted = open_data(source).split("head-train", limit=8).images(32)
    np.testing.assert_array_equal(selftest_images(tmp_path / "out"), wanted)


@pytest.mark.parametrize(
    ("line", "error"),
    (
        (["other.json", *INT8, "--data", "digits", "--head", "head"], "head was trained on another encoder"),
        (["spec.json", *INT8, "--data", "digits", "--max-accuracy-loss", "0.05"], "needs a head"),
        (["spec.json", *INT8], "int8 needs images to calibrate on"),
        (["int8/encoder.json", *FEW], "int8 needs images to calibrate on"),
        (["int8/encoder.json", "--head", "head"], "a head images to be tried on"),
        (
            ["int8/encoder.json", "--data", "digits", "--head", "head", "--max-accuracy-loss", "0.05"],
            "--max-accuracy-loss is for calibrating, and the spec has its grids; add --precision int8",
        ),
        (["spec.json", "--data", "digits", "--head", "head"], "--head is for int8; add --precision int8"),
        (["spec.json", *FEW], "--calibration is for int8; add --precision int8"),
        (["spec.json", "--data", "digits"], "--data is for calibrating int8 or for --selftest data"),
        (["int8/encoder.json", "--data", "digits"], "--data is for calibrating int8 or for --selftest"),
        (["spec.json", "--selftest", "data"], "name them with --data SOURCE"),
    ),
)
def test_what_cannot_be_done_or_has_no_use_is_refused(
    line: list[str], error: str, privynet: Run, out: Path
) -> None:
    shown = privynet("export", *line, "--out", out)
    assert shown.code == 2 and error in shown.error
    assert not out.exists()
