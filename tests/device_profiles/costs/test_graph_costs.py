"""Costs counted on the exported file, against the traced network and against graphs worked out by hand."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from privynet.artifacts import Payload
from privynet.device_profiles import graph_costs
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import PrivynetError
from privynet.exporters import write_onnx


@pytest.mark.parametrize(
    ("backbone", "size"),
    (
        ("bundled", 32),
        ("timm:mobilenetv2_100,pad_type=same", 64),
        ("torchvision:mobilenet_v3_small", 64),
        ("torchvision:resnet18", 64),
        ("torchvision:densenet121", 32),
    ),
)
def test_the_file_costs_what_the_traced_network_does(tmp_path: Path, backbone: str, size: int) -> None:
    weights = None if backbone == "bundled" else "random"
    splitter = Splitter(load_backbone(parse_backbone(backbone, weights=weights)), size)
    cut = splitter.cuts[len(splitter.cuts) // 2]
    encoder = make_encoder(splitter, cut=cut.name, channels=range(max(1, cut.channels // 2)))
    write_onnx(encoder, tmp_path / "encoder.onnx")
    counted = graph_costs(tmp_path / "encoder.onnx")
    assert counted.macs == encoder.costs.macs
    assert counted.payload_bytes == encoder.costs.payload_bytes
    # Biases of untrained networks are alike, and a file holds what is alike once.
    assert 0.95 * encoder.costs.weights_kb - 4 <= counted.weights_kb <= encoder.costs.weights_kb + 0.5
    assert counted.peak_ram_kb == encoder.costs.peak_ram_kb


def test_a_payload_of_bytes_counts_as_it_leaves(tmp_path: Path) -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 16)
    encoder = make_encoder(splitter, cut="blocks.1.2", channels=range(4))
    quantised = encoder.sending(payload=Payload(bits=8, scale=0.1))
    write_onnx(quantised, tmp_path / "encoder.onnx")
    assert graph_costs(tmp_path / "encoder.onnx").payload_bytes == 4 * 16 * 16


def write(path: Path, nodes: list[onnx.NodeProto], shape: list[int | str], out: list[int | str]) -> Path:
    def value(name: str, sizes: list[int | str]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)

    weight = helper.make_tensor("w", TensorProto.FLOAT, [8, 4, 3, 3], [0.0] * 288)
    graph = helper.make_graph(nodes, "g", [value("x", shape)], [value("y", out)], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


def test_a_skip_connection_keeps_its_tensor_alive(tmp_path: Path) -> None:
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], **conv),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    costs = graph_costs(write(tmp_path / "g.onnx", nodes, [1, 4, 10, 10], [1, 8, 10, 10]))
    assert costs.macs == 8 * 100 * 4 * 9
    assert costs.weights_kb == 288 * 4 / 1024
    # The caller's 1,600 bytes, and while they are added the 3,200 of b, of c and of the sum.
    assert costs.peak_ram_kb == (1600 + 3 * 3200) / 1024
    assert costs.payload_bytes == 3200


def test_a_shape_that_is_not_static_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    with pytest.raises(PrivynetError, match="is not known"):
        graph_costs(write(tmp_path / "g.onnx", nodes, ["n", 4], ["n", 4]))
