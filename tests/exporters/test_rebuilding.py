"""What verify learns by rebuilding the encoder from its spec, and what a forged spec cannot make it do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from privynet.encoders import (
    Encoder,
    EncoderSpec,
    Splitter,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_encoder,
)
from privynet.errors import InputError
from privynet.exporters import export, verify
from privynet.exporters.int8 import in_int8

from .hostile import forged, reseal

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


def with_spec(artifact: Path, folder: Path, manifest: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A copy whose spec says something else, sealed anew."""
    copy = Path(shutil.copytree(artifact, folder / "forged"))
    document = json.loads((copy / "encoder.json").read_text()) | changes
    (copy / "encoder.json").write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    digest = EncoderSpec.read(copy / "encoder.json").digest
    reseal(copy, spec_digest=digest, **(manifest or {}))
    return copy


def errors(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["code"], one["message"]) for one in found["findings"] if one["severity"] == "error"]


@pytest.mark.parametrize("runtime", [None, "nnapi"])
def test_the_same_graph_comes_out_when_it_is_exported_again(
    small_spec: Path, tmp_path: Path, runtime: str | None
) -> None:
    export(small_spec, out=tmp_path / "artifact", for_runtime=runtime)
    found = verify(tmp_path / "artifact")
    assert found["parity"]["same_bytes"] is True and found["findings"] == []


def test_another_graph_that_computes_the_same_is_told_from_it(small: Path, tmp_path: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        model.graph.node[0].name = "renamed"

    found = verify(forged(small, tmp_path, rename))
    assert errors(found) == [] and found["parity"]["same_bytes"] is False
    (warning,) = found["findings"]
    assert warning["code"] == "other_bytes" and "13 images alone" in warning["message"]


def test_nothing_is_claimed_of_what_other_versions_made(small: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    tools = json.loads((copy / "manifest.json").read_text())["tools"]
    reseal(copy, tools={**tools, "torch": "2.0.0"})
    found = verify(copy)
    assert found["parity"]["same_bytes"] is None and found["findings"] == []


def test_images_are_drawn_anew_unless_they_are_named(small: Path) -> None:
    first, second = (verify(small)["parity"] for _ in range(2))
    assert first["seed"] != second["seed"]
    assert verify(small, seed=first["seed"])["parity"] == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": "blocks.9.9"}, "blocks.9.9"),
        ({"gathers": 7}, "7 gathers"),
        ({"backbone": "timm:resnet50,num_classes=9000000"}, "MiB of weights"),
    ],
)
def test_a_spec_that_does_not_fit_its_backbone_is_a_finding(
    small: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    ((code, told),) = errors(verify(with_spec(small, tmp_path, **changes)))
    assert code == "spec" and message in told


@pytest.mark.parametrize("argument", ["cache_dir=/tmp/x", "checkpoint_path=/etc/passwd", "pretrained=true"])
def test_a_spec_chooses_no_files(small: Path, tmp_path: Path, argument: str) -> None:
    with pytest.raises(InputError, match=f"{argument.split('=')[0]} is about files"):
        verify(with_spec(small, tmp_path, backbone=f"timm:resnet18,{argument}"))


def test_a_precision_that_the_spec_has_not_is_found(small: Path, tmp_path: Path) -> None:
    copy = with_spec(small, tmp_path, {"precision": "int8", "int8": {}})
    assert ("spec", "precision is fp32, the manifest says int8") in errors(verify(copy, without_torch=True))


def test_grids_of_another_graph_are_a_finding(plain_encoder: Encoder, tmp_path: Path) -> None:
    quantised, _ = in_int8(plain_encoder, IMAGES)
    quantised.spec.write(tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "artifact")
    int8 = quantised.spec.model_dump(mode="json")["int8"]
    name = next(iter(int8["grids"]))
    int8["grids"]["another"] = int8["grids"].pop(name)
    ((code, told),) = errors(verify(with_spec(tmp_path / "artifact", tmp_path, int8=int8)))
    assert code == "spec" and "grids belong to another graph" in told


def test_integers_do_not_hold_a_projection_which_must_be_given(tmp_path: Path) -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    cut = splitter.cuts[4]
    matrix = np.random.default_rng(0).standard_normal((6, cut.channels)).astype(np.float32)
    write_encoder(
        in_int8(make_encoder(splitter, cut=cut.name, projection=matrix), IMAGES)[0], tmp_path / "encoder.json"
    )
    export(tmp_path / "encoder.json", out=tmp_path / "artifact")
    found = verify(tmp_path / "artifact")
    assert found["parity"] == "not_run" and errors(found) == []
    assert "--projection-weights" in found["findings"][0]["message"]
    found = verify(tmp_path / "artifact", projection_weights=str(tmp_path / "encoder.safetensors"))
    assert found["parity"]["same_bytes"] is True and found["findings"] == []


def test_what_is_not_finite_agrees_with_nothing(small: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    with np.load(copy / "selftest.npz") as archive:
        rows = dict(archive)
    rows["features"][0, 0, 0, 0] = np.inf
    np.savez(copy / "selftest.npz", **rows)
    reseal(copy)
    ((code, told),) = errors(verify(copy, without_torch=True))
    assert code == "selftest" and "is off by inf" in told


def test_noise_does_not_hide_behind_one_large_value(noisy_encoder: Encoder, tmp_path: Path) -> None:
    plain = noisy_encoder.sending(payload=noisy_encoder.payload.model_validate({}))
    plain.spec.write(tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "artifact")

    def silenced(model: onnx.ModelProto) -> None:
        """Noise times 0, and 1e4 added to one value."""
        output = model.graph.output[0]
        shape = [one.dim_value for one in output.type.tensor_type.shape.dim]
        peak = np.zeros(shape, np.float32)
        peak.flat[0] = 1e4
        model.graph.initializer.append(onnx.numpy_helper.from_array(peak, "peak"))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "silence"))
        for node in model.graph.node:
            node.input[:] = ["silent" if name == "noise" else name for name in node.input]
            node.output[:] = ["inner" if name == output.name else name for name in node.output]
        nodes = [onnx.helper.make_node("Mul", ["noise", "silence"], ["silent"]), *model.graph.node]
        nodes.append(onnx.helper.make_node("Add", ["inner", "peak"], [output.name]))
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    copy = forged(tmp_path / "artifact", tmp_path, silenced)
    session = onnx_session(copy)
    with np.load(copy / "selftest.npz") as archive:
        rows = dict(archive)
    rows["features"] = session(rows["images"], rows["noise"])
    np.savez(copy / "selftest.npz", **rows)
    reseal(copy)
    assert "noise" in {code for code, _ in errors(verify(copy, without_torch=True))}


def onnx_session(artifact: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(artifact / "encoder.onnx", providers=["CPUExecutionProvider"])

    def send(images: np.ndarray, noise: np.ndarray) -> np.ndarray:
        rows = [
            session.run(None, {"images": image[None], "noise": one[None]})[0]
            for image, one in zip(images, noise, strict=True)
        ]
        return np.concatenate(rows)

    return send
