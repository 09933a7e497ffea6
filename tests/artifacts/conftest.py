"""Small graphs built by hand, and an artifact around one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from privynet.artifacts import seal


def encoder_graph(
    path: Path, *, batch: int | str = 1, size: int = 4, dtype: int = TensorProto.UINT8, outputs: int = 1
) -> None:
    """Keep the red plane and halve it: (n, size, size, 3) to (n, 1, size, size)."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Gather", ["planes", "red"], ["kept"], axis=1),
            helper.make_node("Mul", ["kept", "half"], ["features"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("image", dtype, [batch, size, size, 3])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 1, size, size]),
            helper.make_tensor_value_info("planes", TensorProto.FLOAT, [batch, 3, size, size]),
        ][:outputs],
        [
            helper.make_tensor("red", TensorProto.INT64, [1], [0]),
            helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
        ],
    )
    save(graph, path)


def sending_graph(path: Path, *, bytes_sent: bool = False, noise_type: int = TensorProto.FLOAT) -> None:
    """Red plus half the noise: image (1, 4, 4, 3), noise (1, 1, 4, 4) to (1, 1, 4, 4); float32 or uint8."""
    kind = TensorProto.UINT8 if bytes_sent else TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Gather", ["planes", "red"], ["kept"], axis=1),
            helper.make_node("Cast", ["noise"], ["added"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["added", "half"], ["scaled"]),
            helper.make_node("Add", ["kept", "scaled"], ["sum"]),
            helper.make_node("Round", ["sum"], ["rounded"]),
            helper.make_node("Clip", ["rounded", "zero", "most"], ["clipped"]),
            helper.make_node("Cast", ["clipped" if bytes_sent else "sum"], ["sent"], to=kind),
        ],
        "encoder",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 4, 3]),
            helper.make_tensor_value_info("noise", noise_type, [1, 1, 4, 4]),
        ],
        [helper.make_tensor_value_info("sent", kind, [1, 1, 4, 4])],
        [
            helper.make_tensor("red", TensorProto.INT64, [1], [0]),
            helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0]),
            helper.make_tensor("most", TensorProto.FLOAT, [], [255]),
        ],
    )
    save(graph, path)


def head_graph(path: Path, *, batch: int | str = "n") -> None:
    """(n, 2, 1, 1) to (n, 3) by one matrix product."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["features"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "head",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 2, 1, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor("weight", TensorProto.FLOAT, [2, 3], [1, 2, 3, 4, 5, 6])],
    )
    save(graph, path)


def save(graph: onnx.GraphProto, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(model.SerializeToString())


BODY = {
    "tools": {"onnxruntime": "1.31.1"},
    "spec_digest": "5" * 64,
    "precision": "fp32",
    "int8": None,
    "input": {"name": "image", "shape": [1, 4, 4, 3], "dtype": "uint8"},
    "noise": None,
    "output": {"name": "features", "shape": [1, 1, 4, 4], "dtype": "float32"},
    "feature_shape": [1, 4, 4],
    "payload": {"bits": 32, "scale": 1.0, "zero_point": 0},
    "noise_std": 0.0,
    "opset": 20,
    "runtimes": {"nnapi": {"supported": False, "nodes": 3, "unsupported": ["Gather_2"], "partitions": 2}},
    "parity": {"max_abs_error": 1e-6},
    "costs": {"macs": 16, "kernels": []},
    "limits": {"r2": {"limit": 0.5, "value": 0.4, "source": "user"}},
    "measured": [{"latency_ms": 1.5, "device": "a board"}],
}


def write_members(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoder_graph(folder / "encoder.onnx")
    (folder / "encoder.json").write_text(json.dumps({"cut": "features.3", "channels": [0]}))
    np.savez(folder / "selftest.npz", image=np.zeros((1, 4, 4, 3), np.uint8))
    (folder / "README.md").write_text("An encoder.\n")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A sealed artifact folder."""
    folder = tmp_path / "artifact"
    write_members(folder)
    seal(folder, BODY)
    return folder
