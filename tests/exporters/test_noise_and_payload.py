"""Artifacts that add noise and send bytes: exported, verified and forged."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from privynet.artifacts import Artifact, OrtEncoder
from privynet.encoders import (
    Encoder,
    EncoderSpec,
    Payload,
    Splitter,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_adapted,
)
from privynet.errors import InputError
from privynet.exporters import export, verify

from .hostile import reseal

KINDS = {"noise": (32, 0.4), "8 bits": (8, 0.0), "4 bits and noise": (4, 0.4), "2 bits": (2, 0.0)}


@dataclass(frozen=True)
class Made:
    encoder: Encoder
    artifact: Path
    result: dict[str, Any]


def images(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def plain() -> Encoder:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    return make_encoder(splitter, cut="blocks.4.2", channels=range(0, 60, 4))


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, plain: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Made:
    bits, noise_std = KINDS[request.param]
    encoder = sending(plain, bits, noise_std)
    folder = tmp_path_factory.mktemp("made")
    encoder.spec.write(folder / "encoder.json")
    return Made(encoder, folder / "artifact", export(folder / "encoder.json", out=folder / "artifact"))


def sending(plain: Encoder, bits: int, noise_std: float) -> Encoder:
    noisy = plain.sending(noise_std=noise_std)
    # the grid depends on the draw; this one leaves room for noise that is not clipped
    features = noisy.encode(images(20), generator=np.random.default_rng(7))
    return noisy.sending(payload=Payload.fit(features, bits))


def test_spec_manifest_and_graph_agree(made: Made) -> None:
    manifest, encoder = Artifact.open(made.artifact).manifest, made.encoder
    payload, shape = encoder.payload, encoder.feature_shape
    assert (manifest.payload, manifest.noise_std) == (payload, encoder.noise_std)
    assert manifest.costs["payload_bytes"] == encoder.payload_bytes == payload.bytes(shape)
    model = onnx.load(made.artifact / "encoder.onnx")
    assert [value.name for value in model.graph.input] == ["images", "noise"][: 1 + (encoder.noise_std > 0)]
    (output,) = model.graph.output
    size = tuple(dimension.dim_value for dimension in output.type.tensor_type.shape.dim)
    assert size == manifest.output.shape == (1, *payload.sent_shape(shape))
    if payload.quantised:
        assert (output.name, output.type.tensor_type.elem_type) == ("payload", onnx.TensorProto.UINT8)
    else:
        assert (output.name, output.type.tensor_type.elem_type) == ("features", onnx.TensorProto.FLOAT)
    assert (manifest.noise is None) == (encoder.noise_std == 0)
    if manifest.noise is not None:
        assert (manifest.noise.name, manifest.noise.shape) == ("noise", (1, *shape))


def test_it_is_sound_with_and_without_torch(made: Made) -> None:
    found = verify(made.artifact)
    assert found["findings"] == []
    # a step or less
    assert found["parity"]["max_abs_error"] <= max(
        1e-4, 1.01 * made.encoder.payload.scale * (made.encoder.payload.quantised)
    )
    assert verify(made.artifact, without_torch=True)["findings"] == []
    assert made.result["parity"].keys() == {"max_abs_error", "max_abs_output"}


def test_onnx_runtime_sends_and_encodes_what_torch_does(made: Made) -> None:
    session, encoder = Artifact.open(made.artifact).session(), made.encoder
    assert session.feature_shape == encoder.feature_shape
    assert (session.noise_std, session.payload) == (encoder.noise_std, encoder.payload)
    read = [one.encode(images(12, 5), generator=np.random.default_rng(6)) for one in (encoder, session)]
    if encoder.payload.quantised:
        steps = np.rint(np.abs(read[0] - read[1]) / encoder.payload.scale)
        assert steps.max() <= 1 and steps.mean() < 0.002
    else:
        np.testing.assert_allclose(*read, rtol=1e-4, atol=1e-4)


def test_noise_has_the_spec_s_standard_deviation(made: Made) -> None:
    session, encoder = Artifact.open(made.artifact).session(), made.encoder
    one = images(1, 8)
    silent = encoder.features(torch.from_numpy(one)).numpy()
    many = session.encode(np.repeat(one, 60, axis=0))
    if not encoder.noise_std:
        assert np.array_equal(many, np.repeat(many[:1], 60, axis=0))
        return
    added = many - silent
    if encoder.payload.quantised:
        low, high = (encoder.payload.dequantise(np.array(q, np.uint8)) for q in (0, encoder.payload.top))
        # whole rows of values that noise does not drive into clipping
        inside = (silent[0] - 3 * encoder.noise_std > low) & (silent[0] + 3 * encoder.noise_std < high)
        added = added[:, inside]
    assert added.size > 2000
    grid = encoder.payload.scale**2 / 12 if encoder.payload.quantised else 0
    assert added.std() == pytest.approx((encoder.noise_std**2 + grid) ** 0.5, rel=0.05)


def test_the_same_spec_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    made.encoder.spec.write(tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "again")
    for member in made.artifact.iterdir():
        assert (tmp_path / "again" / member.name).read_bytes() == member.read_bytes(), member.name


def forged(made: Made, folder: Path) -> Path:
    return Path(shutil.copytree(made.artifact, folder / "forged"))


def codes(folder: Path, **options: Any) -> set[str]:
    return {finding["code"] for finding in verify(folder, **options)["findings"]}


def selftest_anew(folder: Path) -> None:
    manifest = Artifact.open(folder).manifest
    session = OrtEncoder.open(
        folder / "encoder.onnx",
        payload=manifest.payload,
        noise_std=manifest.noise_std,
        feature_shape=manifest.feature_shape,
    )
    with np.load(folder / "selftest.npz") as archive:
        rows = dict(archive)
    rows[manifest.payload.output_name] = session.send(rows["images"], rows.get("noise"))
    np.savez(folder / "selftest.npz", **rows)


def replace_constant(folder: Path, old: float, new: float) -> None:
    """Change the constant ``old`` of the graph."""
    model = onnx.load(folder / "encoder.onnx")
    found = 0
    for constant in model.graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        if array.size == 1 and array.dtype == np.float32 and array.item() == np.float32(old):
            changed = np.full(array.shape, new, np.float32)
            constant.CopyFrom(onnx.numpy_helper.from_array(changed, constant.name))
            found += 1
    assert found
    onnx.save(model, folder / "encoder.onnx")


def test_a_spec_of_another_payload_or_noise_is_found(made: Made, tmp_path: Path) -> None:
    folder = forged(made, tmp_path)
    spec = EncoderSpec.read(folder / "encoder.json")
    other = Payload() if spec.payload.quantised else Payload(bits=8, scale=0.1)
    spec.model_copy(update={"payload": other, "noise_std": 0.9}).write(folder / "encoder.json")
    reseal(folder)
    found = verify(folder)["findings"]
    assert {finding["code"] for finding in found} == {"spec"}
    assert any("payload" in finding["message"] for finding in found)
    assert any("noise_std" in finding["message"] for finding in found)


def test_a_graph_that_weakens_the_noise_is_found(made: Made, tmp_path: Path) -> None:
    if not made.encoder.noise_std:
        return
    folder = forged(made, tmp_path)
    replace_constant(folder, made.encoder.noise_std, 0.01)
    reseal(folder)
    assert codes(folder, without_torch=True) == {"selftest"}
    selftest_anew(folder)
    reseal(folder)
    assert codes(folder, without_torch=True) == {"noise"}


def test_a_graph_of_another_scale_is_found(made: Made, tmp_path: Path) -> None:
    payload = made.encoder.payload
    if not payload.quantised:
        return
    folder = forged(made, tmp_path)
    replace_constant(folder, payload.scale, 1.3 * payload.scale)
    reseal(folder)
    assert codes(folder) == {"selftest"}
    selftest_anew(folder)
    reseal(folder)
    assert codes(folder) <= {"noise", "parity"} and codes(folder)


def test_a_manifest_of_another_payload_is_found(made: Made, tmp_path: Path) -> None:
    folder = forged(made, tmp_path)
    reseal(folder, payload=Payload(bits=8, scale=0.1).model_dump())
    found = codes(folder)
    assert found and found <= {"integrity", "spec"}


def test_a_self_test_without_its_noise_or_of_other_names_is_found(made: Made, tmp_path: Path) -> None:
    folder = forged(made, tmp_path)
    with np.load(folder / "selftest.npz") as archive:
        rows = dict(archive)
    rows.pop("noise", None)
    np.savez(folder / "selftest.npz", **{**rows, "more": np.zeros(1)})
    reseal(folder)
    assert codes(folder) == {"selftest"}


def test_a_step_is_allowed_in_the_self_test_but_not_two_and_not_everywhere(
    made: Made, tmp_path: Path
) -> None:
    if not made.encoder.payload.quantised:
        return
    folder = forged(made, tmp_path)
    with np.load(folder / "selftest.npz") as archive:
        rows = dict(archive)
    payload, shape = made.encoder.payload, made.encoder.feature_shape

    def with_steps(change: np.ndarray[Any, Any]) -> set[str]:
        steps = payload.unpack(rows["payload"], shape).astype(int)
        moved = np.where(steps > payload.top // 2, steps - change, steps + change).astype(np.uint8)
        np.savez(folder / "selftest.npz", **{**rows, "payload": payload.pack(moved)})
        reseal(folder)
        return codes(folder, without_torch=True)

    change = np.zeros((len(rows["images"]), *shape), int)
    change[0, 0, 0, :3] = 1
    assert with_steps(change) == set()
    assert with_steps(np.ones_like(change)) == {"selftest"}
    if payload.top > 3:
        change[0, 0, 0, 0] = 2
        assert with_steps(change) == {"selftest"}


@pytest.fixture(scope="module")
def adapted(plain: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``encoder.json`` of an adapted encoder, ``weights.safetensors``, and ``artifact``."""
    folder = tmp_path_factory.mktemp("adapted")
    state = {name: 0.9 * tensor for name, tensor in plain.graph_module.named_parameters()}
    encoder = plain.adapt(state, method="nopeek", alpha=0.5)
    write_adapted(encoder, folder / "weights.safetensors")
    spec = encoder.spec.model_copy(update={"adapted_weights": "weights.safetensors"})
    spec.write(folder / "encoder.json")
    export(folder / "encoder.json", out=folder / "artifact")
    return folder


def test_an_adapted_encoder_is_exported_with_its_own_weights(plain: Encoder, adapted: Path) -> None:
    spec = EncoderSpec.read(adapted / "encoder.json")
    found = verify(adapted / "artifact", adapted_weights=str(adapted / "weights.safetensors"))
    assert found["findings"] == []
    assert spec.adapted is not None and found["inputs"]["adapted_weights"] == spec.adapted.digest
    features = Artifact.open(adapted / "artifact").session().encode(images(3))
    assert not np.allclose(features, plain.encode(images(3)), rtol=0.01)
    assert not any(b"weights.safetensors" in file.read_bytes() for file in (adapted / "artifact").iterdir())


def test_adapted_weights_that_are_not_there_are_asked_for(adapted: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--adapted-weights"):
        verify(adapted / "artifact")
    assert verify(adapted / "artifact", without_torch=True)["findings"] == []
    shutil.copy(adapted / "encoder.json", tmp_path)
    with pytest.raises(InputError, match="--adapted-weights"):
        export(tmp_path / "encoder.json", out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
    shutil.copy(adapted / "weights.safetensors", tmp_path / "moved.safetensors")
    result = export(
        tmp_path / "encoder.json",
        out=tmp_path / "artifact",
        adapted_weights=str(tmp_path / "moved.safetensors"),
    )
    assert result["files"] == {
        name: info.model_dump() for name, info in Artifact.open(adapted / "artifact").manifest.files.items()
    }
