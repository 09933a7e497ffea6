"""Where a network can be cut, and what the encoders cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torchvision import models

from privynet.encoders import Backbone, Splitter, load_backbone, make_encoder, module_costs, parse_backbone
from privynet.errors import InputError
from privynet.exporters import write_onnx


def splitter_of(text: str, size: int = 64) -> Splitter:
    return Splitter(load_backbone(parse_backbone(text), shapes_only=True), size)


def splitter_around(module: nn.Module, size: int = 16) -> Splitter:
    name = parse_backbone("timm:resnet18", mean="0", std="1")
    return Splitter(Backbone(name, module.eval(), (0.0,) * 3, (1.0,) * 3, size, "0" * 64), size)


def test_a_residual_block_has_one_cut_at_its_end() -> None:
    names = [cut.name for cut in splitter_of("torchvision:resnet18").cuts]
    blocks = [f"layer{layer}.{block}.relu" for layer in (1, 2, 3, 4) for block in (0, 1)]
    assert names == ["relu", "maxpool", *blocks, "avgpool"]


def test_a_convolution_its_normalisation_and_its_activation_are_one_cut() -> None:
    cuts = splitter_of("bundled").cuts
    assert [cut.name for cut in cuts] == [*(f"blocks.{block}.2" for block in range(8)), "pool"]
    assert [cut.index for cut in cuts] == list(range(9))
    assert [cut.shape for cut in cuts][:3] == [(32, 64, 64), (32, 64, 64), (64, 32, 32)]


def test_without_an_activation_the_normalisation_is_the_cut() -> None:
    names = [cut.name for cut in splitter_of("timm:mobilenetv2_100").cuts]
    assert "blocks.0.0.bn2" in names and "blocks.0.0.conv_pw" not in names
    assert "blocks.1.1" in names and not any(name.startswith("blocks.1.1.") for name in names)


def test_channel_shuffles_end_in_the_cut_of_their_block() -> None:
    names = [cut.name for cut in splitter_of("torchvision:shufflenet_v2_x1_0").cuts]
    assert names[:5] == ["conv1.2", "maxpool", "stage2.0", "stage2.1", "stage2.2"]


class Bypass(nn.Module):
    """The image itself goes on to the end: nothing but the output carries all of the data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.conv(x) + x).flatten(1)


class NoImage(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


class DataDependent(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_data_that_bypasses_a_convolution_leaves_only_the_sum_as_a_cut() -> None:
    assert [cut.name for cut in splitter_around(Bypass()).cuts] == ["add"]


def test_a_backbone_without_a_cut_and_one_that_cannot_be_traced_are_refused() -> None:
    with pytest.raises(InputError, match="has no cut"):
        _ = splitter_around(NoImage()).cuts
    with pytest.raises(InputError, match="cannot be traced"):
        splitter_around(DataDependent())
    with pytest.raises(InputError, match="unknown cut 'layer9'"):
        splitter_of("torchvision:resnet18").cut("layer9")
    with pytest.raises(InputError, match="input size 4 is out of range"):
        splitter_of("bundled", 4)


@pytest.mark.parametrize(
    "name",
    ("vgg16", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x1_0", "efficientnet_b0"),
)
def test_macs_and_weights_of_whole_networks_are_those_torchvision_publishes(name: str) -> None:
    published = models.get_model_weights(name).DEFAULT.meta
    with torch.device("meta"):
        costs = module_costs(models.get_model(name, weights=None), 224)
    assert costs.macs / 1e9 == pytest.approx(published["_ops"], rel=0.02)
    # Folding normalisation drops its parameters, so there are a few less than published.
    assert 0.97 * published["num_params"] < costs.weights_kb * 256 <= published["num_params"]


@pytest.mark.parametrize(
    ("text", "cut", "kept"),
    (
        ("bundled", "blocks.3.2", 10),
        ("timm:mobilenetv2_100,pad_type=same", "blocks.1.1", 7),
        ("torchvision:mobilenet_v3_small", "features.3", 9),
        ("torchvision:shufflenet_v2_x1_0", "stage2.1", 30),
    ),
)
def test_weights_are_the_exported_files_float_constants(
    tmp_path: Path, text: str, cut: str, kept: int
) -> None:
    backbone = load_backbone(parse_backbone(text, weights="random"))
    generator = torch.Generator().manual_seed(0)
    # Untrained biases and statistics are equal constants, which the file stores once.
    for name, tensor in backbone.module.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.uniform_(-1, 1, generator=generator)
    splitter = Splitter(backbone, 64)
    encoder = make_encoder(splitter, cut=cut, channels=splitter.order(cut, range(kept)))
    write_onnx(encoder, tmp_path / "encoder.onnx")
    model = onnx.load(tmp_path / "encoder.onnx")
    arrays = [onnx.numpy_helper.to_array(constant) for constant in model.graph.initializer]
    counted = sum(array.nbytes for array in arrays if array.dtype == np.float32)
    # The bounds of clipping activations are constants of the file and none of the network's.
    assert counted / 1024 == pytest.approx(encoder.costs.weights_kb, abs=0.05)


def test_payload_and_peak_memory_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 1), nn.Flatten()
    )
    first, pooled, last = splitter_around(network).cuts
    image, planes, wide, half = 16 * 16 * 3, 4 * 16 * 16 * 3, 4 * 8 * 16 * 16, 4 * 8 * 8 * 8
    assert first.costs.payload_bytes == wide and pooled.costs.payload_bytes == half
    assert last.costs.payload_bytes == half // 2
    # The caller holds the image; beside it are the float planes and the first convolution's output.
    assert first.costs.peak_ram_kb * 1024 == image + planes + wide
    assert last.costs.peak_ram_kb == first.costs.peak_ram_kb
    assert last.costs.macs == 16 * 16 * 8 * 27 + 8 * 8 * 4 * 8


def test_costs_are_counted_without_running_or_loading_weights() -> None:
    splitter = splitter_of("timm:mobilenetv2_100", 224)
    assert all(parameter.is_meta for parameter in splitter.backbone.module.parameters())
    assert splitter.cuts[-1].costs.macs > 2.9e8
