"""Costs counted on the exported file, against the traced network and against graphs worked out by hand."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from privynet.artifacts import Payload
from privynet.device_profiles import graph_costs
from privynet.device_profiles.costs import model_costs
from privynet.encoders import (
    Costs,
    Kernel,
    Splitter,
    load_backbone,
    make_encoder,
    module_costs,
    parse_backbone,
)
from privynet.errors import PrivynetError
from privynet.exporters import write_onnx
from privynet.exporters.onnx_file import to_onnx


def unweighted(costs: Costs) -> list[Kernel]:
    """The kernels but for their parameters: untrained networks have biases of zeros, which no file holds."""
    return [replace(kernel, weights=0) for kernel in costs.kernels]


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
    assert unweighted(counted) == unweighted(encoder.costs)


def test_attention_counts_as_much_in_the_file(tmp_path: Path) -> None:
    """Its kernels are cut otherwise by the exporter; what they multiply is the same."""
    splitter = Splitter(load_backbone(parse_backbone("timm:edgenext_xx_small", weights="random")), 64)
    cut = splitter.cuts[12]
    encoder = make_encoder(splitter, cut=cut.name, channels=range(cut.channels // 2))
    write_onnx(encoder, tmp_path / "encoder.onnx")
    assert graph_costs(tmp_path / "encoder.onnx").macs == encoder.costs.macs
    assert any(node.op_type == "MatMul" for node in onnx.load(tmp_path / "encoder.onnx").graph.node)


class Between(nn.Module):
    """Two convolutions, and what is computed between them."""

    def __init__(self, work: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.work, self.last = nn.Conv2d(3, 8, 3, padding=1), work, nn.Conv2d(8, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.last(self.work(self.first(images)))
        return result


class Attention(nn.Module):
    """Every pixel looks at every other."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2)
        mixed = self.product(pixels, self.product(pixels.transpose(1, 2), pixels))
        return mixed.view(x.shape)


class ChannelAttention(nn.Module):
    """A gate from a convolution over neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3)).view(1, 1, -1)
        return x * self.conv(mean).sigmoid().view(1, -1, 1, 1)


class WithPositions(nn.Module):
    """A linear layer without a bias, and a constant of more than one axis."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8, bias=False)
        self.positions = nn.Parameter(torch.arange(512.0).view(1, 8, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = (self.linear(x.permute(0, 2, 3, 1)) + self.positions).permute(0, 3, 1, 2)
        return result


class OverChannels(nn.Module):
    """A linear layer at every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear(x.permute(0, 2, 3, 1)).relu().permute(0, 3, 1, 2)
        return result


PLACES = torch.tensor([7, 0, 1, 2, 3, 4, 5, 6])
BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    **{
        type(activation).__name__: activation
        for activation in (
            *(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.Hardtanh(-2, 2), nn.Hardsigmoid(), nn.ELU()),
            *(nn.Sigmoid(), nn.Tanh(), nn.Hardswish(), nn.SiLU(), nn.GELU(), nn.Mish(), nn.SELU()),
            *(nn.CELU(), nn.PReLU(8)),
        )
    },
    "SiLU written out": lambda x: x * x.sigmoid(),
    "SiLU written the other way": lambda x: torch.mul(torch.sigmoid(x), x),
    "a gate": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "means as vectors": lambda x: x * x.mean((2, 3)).unsqueeze(-1).unsqueeze(-1),
    "a mean over channels": lambda x: x * torch.mean(x, 1, keepdim=True),
    "rows one below the other": lambda x: torch.cat([x, x.tanh()], 2),
    "channels side by side": lambda x: torch.cat([x[:, :4], x[:, 4:].tanh()], 1),
    "channels in another order": lambda x: torch.index_select(x, 1, PLACES),
    "channels as pixels": nn.PixelShuffle(1),
    "a function": lambda x: F.celu(F.selu(x)),
    "a linear layer at every pixel": OverChannels(),
    "a linear layer and positions": WithPositions(),
    "attention with @": Attention(operator.matmul),
    "attention with matmul": Attention(torch.matmul),
    "attention with bmm": Attention(torch.bmm),
    "attention over channels": ChannelAttention(),
    "itself twice": lambda x: x + x,
    "one for all pixels": lambda x: x * x.mean((2, 3), keepdim=True).expand(-1, -1, 8, 8),
    "pixels as channels": nn.PixelUnshuffle(1),
    "normalisation that follows nothing": nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8)),
}


@pytest.mark.parametrize("what", BETWEEN)
def test_the_file_has_the_kernels_of_the_traced_network(what: str) -> None:
    network = Between(BETWEEN[what]).eval()
    exported = to_onnx(network, [torch.zeros(1, 3, 8, 8)], input_names=["images"], output_name="features")
    counted, traced = model_costs(exported), module_costs(network, 8)
    assert counted.kernels == traced.kernels
    assert counted.peak_ram_kb == traced.peak_ram_kb


def test_noise_is_no_image(tmp_path: Path) -> None:
    """However small the features are that it is for."""
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 16)
    encoder = make_encoder(splitter, cut=splitter.cuts[-1].name, channels=range(8))
    assert encoder.feature_shape[1:] <= (4, 4)
    counted = []
    for noise_std in (0.0, 0.5):
        write_onnx(encoder.sending(noise_std=noise_std), tmp_path / "encoder.onnx")
        kernels = graph_costs(tmp_path / "encoder.onnx").kernels
        counted.append([kernel for kernel in kernels if kernel.kind == "image"])
    assert counted[0] == counted[1] != []


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
