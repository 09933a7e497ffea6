"""From a spec to an artifact that holds what it says, and what verify finds in one that does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from privynet.artifacts import Artifact
from privynet.encoders import (
    EncoderSpec,
    Payload,
    Splitter,
    load_backbone,
    make_encoder,
    parse_backbone,
)
from privynet.errors import InputError
from privynet.exporters import export, verify
from privynet.toolkit.main import main

from .hostile import reseal


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "encoder.json"
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    make_encoder(splitter, cut="blocks.4.2", channels=range(0, 60, 3)).spec.write(path)
    return path


@pytest.fixture(scope="module")
def artifact(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "artifact"
    export(spec, out=out)
    return out


def test_the_artifact_is_sound_and_its_manifest_tells_the_costs(spec: Path, artifact: Path) -> None:
    found = verify(artifact)
    assert found["findings"] == [] and found["parity"]["max_abs_error"] < 1e-4
    opened = Artifact.open(artifact)
    assert opened.manifest.spec_digest == EncoderSpec.read(spec).digest
    assert opened.manifest.output.shape == (1, 20, 8, 8)
    assert opened.manifest.noise is None and opened.manifest.payload == Payload()
    assert found["inputs"] == {
        "artifact": opened.manifest.digest,
        "spec": opened.manifest.spec_digest,
        "weights": EncoderSpec.read(spec).weights_digest,
    }
    assert opened.manifest.costs["payload_bytes"] == 20 * 8 * 8 * 4
    assert opened.manifest.costs["storage_kb"] == (artifact / "encoder.onnx").stat().st_size / 1024


def test_the_same_spec_gives_the_same_bytes(spec: Path, artifact: Path, tmp_path: Path) -> None:
    result = export(spec, out=tmp_path / "again")
    assert result["inputs"]["spec"] == EncoderSpec.read(spec).digest
    for member in artifact.iterdir():
        assert (tmp_path / "again" / member.name).read_bytes() == member.read_bytes(), member.name


def test_where_the_weights_lie_is_not_shipped(tmp_path: Path, spec: Path) -> None:
    hinted = EncoderSpec.read(spec).model_copy(update={"weights": None})
    copied = tmp_path / "copied.safetensors"
    from privynet.encoders.bundled import weights_path

    shutil.copy(weights_path(), copied)
    hinted.model_copy(update={"weights": str(copied)}).write(tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "artifact")
    assert not any(b"copied.safetensors" in file.read_bytes() for file in (tmp_path / "artifact").iterdir())


def test_without_torch_parity_is_not_claimed(artifact: Path) -> None:
    assert verify(artifact, without_torch=True)["parity"] == "not_run"


def resealed(artifact: Path, out: Path) -> Path:
    """A copy, to be changed and resealed: what a consistent forger would do."""
    shutil.copytree(artifact, out)
    return out


def test_a_graph_with_other_weights_fails_the_self_test(artifact: Path, tmp_path: Path) -> None:
    forged = resealed(artifact, tmp_path / "forged")
    model = onnx.load(forged / "encoder.onnx")
    weights = max(model.graph.initializer, key=lambda constant: len(constant.raw_data))
    array = onnx.numpy_helper.to_array(weights) * 1.1
    weights.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), weights.name))
    onnx.save(model, forged / "encoder.onnx")
    reseal(forged)
    assert [finding["code"] for finding in verify(forged)["findings"]] == ["selftest"]


def test_a_self_test_forged_with_the_graph_still_fails_parity(artifact: Path, tmp_path: Path) -> None:
    forged = resealed(artifact, tmp_path / "forged")
    model = onnx.load(forged / "encoder.onnx")
    weights = max(model.graph.initializer, key=lambda constant: len(constant.raw_data))
    array = onnx.numpy_helper.to_array(weights) * 1.1
    weights.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), weights.name))
    onnx.save(model, forged / "encoder.onnx")
    with np.load(forged / "selftest.npz") as archive:
        images, tolerance = archive["images"], archive["tolerance"]
    from privynet.artifacts import OrtEncoder

    features = OrtEncoder.open(forged / "encoder.onnx").encode(images)
    np.savez(forged / "selftest.npz", images=images, features=features, tolerance=tolerance)
    reseal(forged)
    assert [finding["code"] for finding in verify(forged)["findings"]] == ["parity"]


def test_a_spec_of_other_channels_is_found(artifact: Path, tmp_path: Path) -> None:
    forged = resealed(artifact, tmp_path / "forged")
    spec = EncoderSpec.read(forged / "encoder.json")
    spec.model_copy(update={"channels": spec.channels[:-1]}).write(forged / "encoder.json")
    reseal(forged)
    assert {finding["code"] for finding in verify(forged)["findings"]} == {"spec"}


@pytest.mark.parametrize(
    ("fault", "file"),
    (
        ("byte", "encoder.onnx"),
        ("dropped", "selftest.npz"),
        ("added", "extra.txt"),
        ("sealed", "manifest.json"),
    ),
)
def test_a_damaged_artifact_is_told_by_the_file(
    artifact: Path, tmp_path: Path, fault: str, file: str
) -> None:
    damaged = resealed(artifact, tmp_path / "damaged")
    if fault == "byte":
        data = bytearray((damaged / file).read_bytes())
        data[len(data) // 2] ^= 1
        (damaged / file).write_bytes(data)
    elif fault == "dropped":
        (damaged / file).unlink()
    elif fault == "sealed":
        (damaged / file).write_text((damaged / file).read_text().replace("fp32", "int8"))
    else:
        (damaged / file).write_text("more")
    found = verify(damaged)
    assert [(finding["code"], finding["file"]) for finding in found["findings"]] == [("integrity", file)]
    assert found["parity"] == "not_run" and found["artifact"] == str(damaged)
    json.dumps(found, allow_nan=False)


def test_the_verb_shows_the_findings_and_fails_with_one_line(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = resealed(artifact, tmp_path / "damaged")
    (damaged / "selftest.npz").unlink()
    assert main(["verify", str(damaged), "--json"]) == 3
    out, err = capsys.readouterr()
    assert [finding["file"] for finding in json.loads(out)["findings"]] == ["selftest.npz"]
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "selftest.npz is missing" in errors[0]
    assert main(["verify", str(tmp_path)]) == 2


def test_a_graph_that_is_none_is_found(artifact: Path, tmp_path: Path) -> None:
    forged = resealed(artifact, tmp_path / "forged")
    (forged / "encoder.onnx").write_bytes(b"no graph")
    reseal(forged)
    assert [finding["code"] for finding in verify(forged)["findings"]] == ["graph"]


def test_a_spec_that_is_none_is_found(artifact: Path, tmp_path: Path) -> None:
    forged = resealed(artifact, tmp_path / "forged")
    (forged / "encoder.json").write_text("{}")
    reseal(forged)
    assert [finding["code"] for finding in verify(forged)["findings"]] == ["spec"]


@pytest.mark.parametrize("tolerance", (1e9, float("nan"), -1.0))
def test_a_forged_tolerance_lets_nothing_through(artifact: Path, tmp_path: Path, tolerance: float) -> None:
    forged = resealed(artifact, tmp_path / "forged")
    with np.load(forged / "selftest.npz") as archive:
        rows = dict(archive)
    rows["features"] = rows["features"] + 1
    np.savez(forged / "selftest.npz", **{**rows, "tolerance": np.float32(tolerance)})
    reseal(forged)
    assert [finding["code"] for finding in verify(forged)["findings"]] == ["selftest"]


def test_what_is_no_run_no_spec_and_no_artifact_is_refused_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.json").write_text("{}")
    for subject in ("folder", "text.json", "missing.json"):
        with pytest.raises(InputError):
            export(tmp_path / subject, out=tmp_path / "out")
    with pytest.raises(InputError):
        verify(tmp_path / "folder")
    assert not (tmp_path / "out").exists()


def test_an_existing_out_is_kept_unless_force_is_given(spec: Path, artifact: Path) -> None:
    before = (artifact / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="--force"):
        export(spec, out=artifact)
    assert (artifact / "manifest.json").read_bytes() == before
    export(spec, out=artifact, force=True)
    assert (artifact / "manifest.json").read_bytes() == before
