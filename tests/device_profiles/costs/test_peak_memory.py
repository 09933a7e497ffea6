"""Peak memory of the exported file: the traced network's, and what ONNX Runtime takes in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from privynet.device_profiles import graph_costs
from privynet.device_profiles.measuring import agent
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import write_onnx


def encoder_of(backbone: str, size: int, cut_index: int, share: float) -> Encoder:
    weights = None if backbone == "bundled" else "random"
    splitter = Splitter(load_backbone(parse_backbone(backbone, weights=weights)), size)
    cut = splitter.cuts[cut_index]
    return make_encoder(splitter, cut=cut.name, channels=range(max(1, int(cut.channels * share))))


@pytest.mark.parametrize(
    ("backbone", "cut_index", "share"),
    (
        ("bundled", 0, 1.0),
        ("timm:mobilenetv2_100,pad_type=same", 4, 0.5),
        ("torchvision:mobilenet_v3_small", 3, 0.5),
        ("torchvision:densenet121", 6, 0.5),
        ("torchvision:efficientnet_b0", 4, 0.5),
        ("torchvision:convnext_tiny", 2, 0.5),
        ("torchvision:shufflenet_v2_x1_0", 5, 1.0),
        ("timm:ecaresnet26t", 6, 0.5),
    ),
)
def test_the_file_and_the_traced_network_have_the_same_peak_and_kernels(
    tmp_path: Path, backbone: str, cut_index: int, share: float
) -> None:
    encoder = encoder_of(backbone, 64, cut_index, share)
    write_onnx(encoder, tmp_path / "encoder.onnx")
    counted = graph_costs(tmp_path / "encoder.onnx")
    assert counted.peak_ram_kb == encoder.costs.peak_ram_kb
    # Untrained networks have biases of zeros, which no file holds.
    kernels, traced = (
        [replace(kernel, weights=0) for kernel in costs.kernels] for costs in (counted, encoder.costs)
    )
    assert kernels == traced


@pytest.mark.parametrize(
    ("backbone", "size"), (("bundled", 256), ("torchvision:densenet121", 224)), ids=("bundled", "densenet")
)
def test_the_first_run_in_a_fresh_process_takes_what_was_predicted(
    tmp_path: Path, backbone: str, size: int
) -> None:
    encoder = encoder_of(backbone, size, 4, 0.5)
    path = tmp_path / "encoder.onnx"
    write_onnx(encoder, path)
    done = subprocess.run(
        [sys.executable, agent.__file__, "--model", str(path), "--memory"],
        # Each large tensor a mapping of its own: what is freed is not kept.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    taken = result["peak_growth_kb"] + result["inputs_kb"]
    assert graph_costs(path).peak_ram_kb > 4096
    assert taken == pytest.approx(graph_costs(path).peak_ram_kb, rel=0.35)


def peak_of(path: Path, nodes: list[onnx.NodeProto], shape: list[int]) -> float:
    """Of a graph whose tensors all have one shape; ``x`` to ``y``, weights ``w``."""

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4, 1, 1], [0.0] * 16)
    graph = helper.make_graph(nodes, "g", [value("x")], [value("y")], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return graph_costs(path).peak_ram_kb


@pytest.mark.parametrize(
    ("operations", "tensors"),
    (
        # (operation, inputs, output); the input, and at the end the output, are among the tensors
        ((("Conv", "x w", "a"), ("Relu", "a", "y")), 2),
        ((("Neg", "x", "a"), ("Relu", "a", "y")), 3),
        ((("Neg", "x", "a"), ("Relu", "a", "b"), ("Neg", "b", "y")), 3),
        ((("Conv", "x w", "a"), ("Sigmoid", "a", "b"), ("Mul", "a b", "y")), 3),
        ((("Conv", "x w", "a"), ("Sigmoid", "a", "b"), ("Mul", "x b", "y")), 3),
        ((("Conv", "x w", "a"), ("HardSwish", "a", "y")), 4),
        ((("Conv", "x w", "a"), ("Conv", "a w", "b"), ("Add", "a b", "y")), 3),
        ((("Conv", "x w", "a"), ("Conv", "a w", "b"), ("Add", "a b", "c"), ("Neg", "c", "y")), 3),
        ((("Conv", "x w", "a"), ("Neg", "a", "b"), ("Add", "a b", "y")), 4),
        ((("Conv", "x w", "a"), ("Pad", "a p", "b"), ("Conv", "b w", "y")), 3),
    ),
)
def test_a_graph_takes_as_many_tensors_as_worked_out_by_hand(
    tmp_path: Path, operations: tuple[tuple[str, str, str], ...], tensors: int
) -> None:
    nodes = [helper.make_node(kind, reads.split(), [made]) for kind, reads, made in operations]
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0] * 8)
    nodes.insert(0, helper.make_node("Constant", [], ["p"], value=pads))
    assert peak_of(tmp_path / "g.onnx", nodes, [1, 4, 10, 10]) * 1024 == tensors * 4 * 4 * 100
