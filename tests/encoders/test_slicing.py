"""An encoder gives what the backbone gives at its cut, for the channels that are kept."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from privynet.encoders import Backbone, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError

BACKBONES = (
    "bundled:plain8",
    "torchvision:vgg16",
    "torchvision:resnet18",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_small",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:efficientnet_b0",
    "timm:mobilenetv2_100",
    "timm:mobilenetv2_100,pad_type=same",
    "timm:mobilenetv3_small_100",
    "timm:mobilenetv4_conv_small",
    "timm:efficientnet_lite0",
)
SIZE = 40  # odd on the way down, so that "same" padding is not symmetric
TOLERANCE = 1e-4


def loaded(text: str, seed: int = 0) -> Backbone:
    """A backbone with random weights and random normalisation statistics, which random weights alone lack."""
    backbone = load_backbone(parse_backbone(text, weights="random"))
    generator = torch.Generator().manual_seed(seed)
    for module in backbone.module.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                with torch.no_grad():
                    tensor.copy_(torch.empty_like(tensor).uniform_(low, high, generator=generator))
    return backbone


def module_outputs(backbone: Backbone, images: np.ndarray) -> dict[str, torch.Tensor]:
    """The last output of every module of the untouched network, by dotted path: the oracle, from hooks."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor):
                outputs[name] = output.detach().clone()

        return hook

    handles = [
        module.register_forward_hook(keep(name)) for name, module in backbone.module.named_modules() if name
    ]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    with torch.no_grad():
        backbone.module((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std)
    for handle in handles:
        handle.remove()
    return outputs


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    assert got.shape == wanted.shape
    return float(np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-12))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("text", BACKBONES)
def test_every_cut_whole_and_sliced_equals_the_backbone(text: str, images: np.ndarray) -> None:
    backbone = loaded(text)
    splitter = Splitter(backbone, SIZE)
    oracle = module_outputs(backbone, images)
    draw = np.random.default_rng(1)
    compared = 0
    for cut in splitter.cuts:
        if cut.name not in oracle:
            # A function's output: the network itself, cut whole, was compared at the cuts around it.
            assert "." not in cut.name
            continue
        wanted = oracle[cut.name].numpy()
        subset = np.sort(draw.choice(cut.channels, max(1, cut.channels // 3), replace=False))
        for kept in (range(cut.channels), subset.tolist()):
            got = make_encoder(splitter, cut=cut.name, channels=kept).encode(images)
            assert relative_error(got, wanted[:, list(kept)]) <= TOLERANCE, (cut.name, len(kept))
        compared += 1
    assert compared >= 8


@pytest.mark.parametrize("text", BACKBONES)
def test_several_cuts_in_one_pass_equal_the_backbone(text: str, images: np.ndarray) -> None:
    backbone = loaded(text)
    splitter = Splitter(backbone, SIZE)
    oracle = module_outputs(backbone, images)
    asked = [cut.name for cut in splitter.cuts if cut.name in oracle][::-1]
    with torch.inference_mode():
        got = splitter.features_of(asked)(torch.from_numpy(images))
    assert list(got) == asked and len(asked) >= 8
    for name, features in got.items():
        assert features.dtype == torch.float32
        assert relative_error(features.numpy(), oracle[name].numpy()) <= TOLERANCE, name


def test_what_lies_behind_the_last_cut_is_not_computed() -> None:
    splitter = Splitter(load_backbone(parse_backbone("torchvision:resnet18"), shapes_only=True), SIZE)
    cuts = splitter.cuts
    several = splitter.features_of([cuts[4].name, cuts[1].name])
    alone, _ = splitter.graph(cuts[4].name, range(cuts[4].channels))
    assert {name for name, _ in several.named_parameters()} == {name for name, _ in alone.named_parameters()}


def test_cuts_that_are_not_there_are_refused() -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled"), shapes_only=True), SIZE)
    with pytest.raises(InputError, match="nowhere"):
        splitter.features_of([splitter.cuts[0].name, "nowhere"])
    with pytest.raises(InputError, match="no cut"):
        splitter.features_of([])


@pytest.mark.parametrize("text", BACKBONES)
def test_no_gather_where_weights_can_be_sliced(text: str) -> None:
    splitter = Splitter(load_backbone(parse_backbone(text), shapes_only=True), SIZE)
    draw = np.random.default_rng(2)
    for cut in splitter.cuts:
        subset = draw.choice(cut.channels, max(1, cut.channels // 3), replace=False).tolist()
        ordered = splitter.order(cut.name, sorted(subset))
        assert sorted(ordered) == sorted(subset)
        assert splitter.graph(cut.name, ordered)[1] == 0, cut.name


def test_a_gather_is_counted_in_the_spec_where_an_order_cannot_be_had() -> None:
    splitter = Splitter(loaded("torchvision:shufflenet_v2_x1_0"), SIZE)
    interleaved = list(range(20))
    assert make_encoder(splitter, cut="stage2.1", channels=interleaved).spec.gathers == 1
    ordered = splitter.order("stage2.1", interleaved)
    assert make_encoder(splitter, cut="stage2.1", channels=ordered).spec.gathers == 0


@pytest.mark.parametrize("text", ("torchvision:resnet18", "timm:mobilenetv2_100", "bundled"))
def test_what_feeds_only_dropped_channels_is_not_built(text: str) -> None:
    splitter = Splitter(load_backbone(parse_backbone(text), shapes_only=True), 64)
    for cut in splitter.cuts:
        few = splitter.costs(cut.name, range(max(1, cut.channels // 4)))
        assert few.weights_kb < cut.costs.weights_kb or cut.name in ("maxpool",)
        assert few.payload_bytes < cut.costs.payload_bytes


def test_depthwise_before_the_cut_is_sliced_with_its_input() -> None:
    splitter = Splitter(load_backbone(parse_backbone("timm:mobilenetv2_100"), shapes_only=True), 64)
    name = "blocks.1.0.bn2"  # expansion, then depthwise: both keep the chosen channels only
    whole, few = splitter.cut(name).costs, splitter.costs(name, range(12))
    last_whole, last_few = (
        [kernel for kernel in costs.kernels if kernel.kind == "depthwise"][-1] for costs in (whole, few)
    )
    assert last_few.macs * 8 == last_whole.macs


class TwoPaths(nn.Module):
    """A grouped convolution, a concatenation and a gate: what the listed backbones do not have together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.grouped = nn.Conv2d(12, 18, 3, padding=1, groups=3)
        self.gate = nn.Parameter(torch.linspace(0.5, 2, 18).view(1, 18, 1, 1))
        self.left, self.right = nn.Conv2d(18, 7, 1), nn.Conv2d(18, 5, 1)
        self.last = nn.Conv2d(12, 10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = self.grouped(x) * self.gate
        x = torch.cat([self.left(x).sigmoid(), self.right(x)], 1)
        left, right = x.chunk(2, 1)
        return self.last(torch.cat([right, left], 1)).mean((2, 3))


def test_groups_gates_splits_and_concatenations_are_sliced_right(images: np.ndarray) -> None:
    torch.manual_seed(0)
    network = TwoPaths().eval()
    name = parse_backbone("timm:resnet18", mean="0", std="1")
    splitter = Splitter(Backbone(name, network, (0.0,) * 3, (1.0,) * 3, SIZE, "0" * 64), SIZE)
    with torch.no_grad():
        x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        stem = torch.relu(network.stem(x))
        grouped = network.grouped(stem)
        gated = grouped * network.gate
        both = torch.cat([network.left(gated).sigmoid(), network.right(gated)], 1)
        left, right = both.chunk(2, 1)
        swapped = torch.cat([right, left], 1)
        wanted = [stem, grouped, gated, both, swapped, network.last(swapped)]
    draw = np.random.default_rng(3)
    found = 0
    for cut, count in itertools.product(splitter.cuts, (1, 2, 3, 5)):
        candidates = [tensor for tensor in wanted if tensor.shape[1] == cut.channels]
        kept = draw.permutation(cut.channels)[:count].tolist()
        got = make_encoder(splitter, cut=cut.name, channels=kept).encode(images)
        errors = [relative_error(got, tensor[:, kept].numpy()) for tensor in candidates]
        assert min(errors) <= TOLERANCE, cut.name
        found += 1
    assert found >= 12


@pytest.mark.parametrize("channels", ([], [0, 0], [16], [-1]))
def test_impossible_channels_are_refused(channels: list[int]) -> None:
    splitter = Splitter(load_backbone(parse_backbone("timm:mobilenetv2_100"), shapes_only=True), 64)
    with pytest.raises(InputError, match="from 0 to 15"):
        splitter.costs("blocks.0.0.bn2", channels)
