"""An encoder with a projection ships: the matrix in the graph, and nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from privynet.artifacts import Artifact
from privynet.encoders import (
    Encoder,
    EncoderSpec,
    Payload,
    Splitter,
    load_backbone,
    make_encoder,
    parse_backbone,
    write_encoder,
)
from privynet.errors import InputError
from privynet.exporters import export, verify

OUTPUTS = 6


def images(n: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def splitter() -> Splitter:
    return Splitter(load_backbone(parse_backbone("bundled")), 32)


@pytest.fixture(scope="module")
def matrix(splitter: Splitter) -> np.ndarray:
    channels = splitter.cut("blocks.2.2").channels
    return np.random.default_rng(0).standard_normal((OUTPUTS, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def encoder(splitter: Splitter, matrix: np.ndarray) -> Encoder:
    return make_encoder(splitter, cut="blocks.2.2", projection=matrix)


@pytest.fixture(scope="module")
def folder(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``encoder.json``, ``encoder.safetensors`` and what was exported, ``artifact``."""
    made = tmp_path_factory.mktemp("projected")
    write_encoder(encoder, made / "encoder.json")
    export(made / "encoder.json", out=made / "artifact")
    return made


def test_the_exported_graph_sends_the_mixtures(
    splitter: Splitter, matrix: np.ndarray, encoder: Encoder, folder: Path
) -> None:
    whole = make_encoder(splitter, cut="blocks.2.2").encode(images(3))
    wanted = np.einsum("dc,nchw->ndhw", matrix.astype(np.float64), whole)
    got = Artifact.open(folder / "artifact").session().encode(images(3))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)
    costs = Artifact.open(folder / "artifact").manifest.costs
    assert costs["macs"] == encoder.costs.macs and costs["payload_bytes"] == OUTPUTS * 16 * 16 * 4


def test_verify_compares_with_torch_and_finds_the_matrix_in_the_graph(encoder: Encoder, folder: Path) -> None:
    given = str(folder / "encoder.safetensors")
    found = verify(folder / "artifact", projection_weights=given, seed=0)
    assert found["findings"] == [] and found["parity"]["max_abs_error"] <= 1e-3
    assert encoder.spec.projection is not None
    assert found["inputs"]["projection_weights"] == encoder.spec.projection.digest
    assert verify(folder / "artifact", seed=0)["parity"] == found["parity"]
    assert verify(folder / "artifact", without_torch=True)["findings"] == []


def test_the_matrix_is_in_the_graph_alone(matrix: np.ndarray, folder: Path) -> None:
    names = {path.name for path in (folder / "artifact").iterdir()}
    assert names == {"README.md", "encoder.json", "encoder.onnx", "manifest.json", "selftest.npz"}
    row = matrix[0].tobytes()
    holding = {path.name for path in (folder / "artifact").iterdir() if row in path.read_bytes()}
    assert holding == {"encoder.onnx"}
    for name in ("encoder.json", "manifest.json", "README.md"):
        text = (folder / "artifact" / name).read_text()
        assert "safetensors" not in text and f"{matrix[0, 0]:.5f}" not in text
    spec = json.loads((folder / "artifact" / "encoder.json").read_text())
    assert spec["projection"].keys() == {"outputs", "method", "digest"}
    assert "How channels are mixed" in (folder / "artifact" / "README.md").read_text()
    graph = onnx.load(folder / "artifact" / "encoder.onnx").graph
    held = [numpy_helper.to_array(one) for one in graph.initializer]
    assert any(one.shape == (*matrix.shape, 1, 1) and (one[:, :, 0, 0] == matrix).all() for one in held)


def test_export_asks_for_a_matrix_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "encoder.json", tmp_path)
    with pytest.raises(InputError, match="--projection-weights"):
        export(tmp_path / "encoder.json", out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()
    moved = shutil.copy(folder / "encoder.safetensors", tmp_path / "moved.safetensors")
    result = export(tmp_path / "encoder.json", out=tmp_path / "artifact", projection_weights=str(moved))
    assert result["files"] == {
        name: info.model_dump() for name, info in Artifact.open(folder / "artifact").manifest.files.items()
    }


def test_noise_payload_and_adapted_weights_go_with_it(encoder: Encoder, tmp_path: Path) -> None:
    state = {name: 0.5 * tensor for name, tensor in encoder.graph_module.named_parameters()}
    changed = encoder.adapt(state, method="nopeek", alpha=0.1)
    payload = Payload.fit(changed.encode(images(2)), 4)
    changed = changed.sending(payload=payload, noise_std=0.3)
    write_encoder(changed, tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "artifact")
    found = verify(tmp_path / "artifact", adapted_weights=str(tmp_path / "encoder.safetensors"))
    assert found["findings"] == []
    assert Artifact.open(tmp_path / "artifact").manifest.feature_shape == (OUTPUTS, 16, 16)
    assert EncoderSpec.read(tmp_path / "artifact" / "encoder.json").digest == changed.digest
