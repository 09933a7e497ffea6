"""From a spec to an artifact that holds what it says, and what verify finds in one that does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from privynet.artifacts import Artifact, manifest_digest
from privynet.encoders import EncoderSpec, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError, NegativeResult
from privynet.exporters import export, verify


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
    assert opened.manifest.costs["payload_bytes"] == 20 * 8 * 8 * 4
    assert opened.manifest.costs["storage_kb"] == (artifact / "encoder.onnx").stat().st_size / 1024


def test_the_same_spec_gives_the_same_bytes(spec: Path, artifact: Path, tmp_path: Path) -> None:
    export(spec, out=tmp_path / "again")
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
    """A copy whose digests are made anew after ``change``: what a consistent forger would do."""
    shutil.copytree(artifact, out)
    return out


def reseal(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    from privynet.artifacts import file_digest

    for name in manifest["files"]:
        manifest["files"][name] = {
            "sha256": file_digest(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
    manifest["digest"] = manifest_digest(manifest)
    text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
    (folder / "manifest.json").write_text(text)


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


@pytest.mark.parametrize("fault", ("byte", "dropped", "added"))
def test_a_damaged_artifact_is_refused(artifact: Path, tmp_path: Path, fault: str) -> None:
    damaged = resealed(artifact, tmp_path / "damaged")
    if fault == "byte":
        data = bytearray((damaged / "encoder.onnx").read_bytes())
        data[len(data) // 2] ^= 1
        (damaged / "encoder.onnx").write_bytes(data)
    elif fault == "dropped":
        (damaged / "selftest.npz").unlink()
    else:
        (damaged / "extra.txt").write_text("more")
    with pytest.raises(NegativeResult):
        verify(damaged)


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
