"""The encoder: what runs on the device, as a torch module."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..errors import InputError
from .backbones import Backbone, BackboneName, load_backbone, parse_backbone
from .costs import Costs, graph_costs
from .spec import EncoderSpec, new_salt
from .splitter import Splitter

_BATCH = 128


class Encoder(nn.Module):
    """A frozen encoder.

    Input: uint8 (N, input_size, input_size, 3), RGB as a camera gives it. Output: float32 (N, C, h, w).
    """

    def __init__(self, spec: EncoderSpec, graph_module: fx.GraphModule) -> None:
        super().__init__()
        self.spec = spec
        self.graph_module = graph_module
        self.eval().requires_grad_(False)

    @property
    def digest(self) -> str:
        """The spec's salted digest."""
        return self.spec.digest

    @property
    def input_size(self) -> int:
        """Pixels."""
        return self.spec.input_size

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the output of one image."""
        output = next(node for node in self.graph_module.graph.nodes if node.op == "output")
        _, channels, height, width = output.all_input_nodes[0].meta["shape"]
        return channels, height, width

    @property
    def costs(self) -> Costs:
        """The costs of one image."""
        return graph_costs(self.graph_module)

    def forward(self, images: Tensor) -> Tensor:
        """Features of uint8 images; shapes as above."""
        features: Tensor = self.graph_module(images)
        return features

    @torch.inference_mode()
    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features (float32 (n, C, h, w)) of images (uint8 (n, H, W, 3)), in batches."""
        device = next(self.graph_module.buffers()).device
        parts = [
            self(torch.from_numpy(images[at : at + _BATCH]).to(device)).cpu().contiguous().numpy()
            for at in range(0, len(images), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, *self.feature_shape), np.float32)


def make_encoder(
    splitter: Splitter, *, cut: str, channels: Sequence[int] | None = None, salt: str | None = None
) -> Encoder:
    """The encoder of a loaded backbone at ``cut`` with ``channels`` (default: all), as a new spec.

    Raises:
        InputError: no such cut or channels, or a backbone of shapes only.
    """
    backbone = splitter.backbone
    if backbone.weights_digest is None:
        raise InputError("an encoder needs the backbone's weights, not its shapes only")
    kept = tuple(range(splitter.cut(cut).channels)) if channels is None else tuple(channels)
    graph_module, gathers = splitter.graph(cut, kept)
    spec = EncoderSpec(
        backbone=backbone.name.architecture,
        weights_digest=backbone.weights_digest,
        mean=backbone.mean,
        std=backbone.std,
        input_size=splitter.input_size,
        cut=cut,
        channels=kept,
        gathers=gathers,
        salt=salt or new_salt(),
        weights=backbone.name.weights,
    )
    return Encoder(spec, graph_module)


def build_encoder(
    spec: EncoderSpec, *, weights: str | None = None, allowed_code: Collection[str] = ()
) -> Encoder:
    """Rebuild the encoder of a spec; twice gives equal weights.

    ``weights`` says where the weights lie if not where the spec says. ``allowed_code`` holds the
    ``module:factory`` names that may be imported: a document alone never gets code imported.

    Raises:
        InputError: weights of another digest, or a spec that does not fit its backbone.
    """
    return _rebuild(spec, load_backbone(_named(spec, weights, allowed_code)))


def _named(spec: EncoderSpec, weights: str | None, allowed_code: Collection[str]) -> BackboneName:
    name = parse_backbone(spec.backbone)
    if name.is_factory and f"{name.kind}:{name.name}" not in allowed_code:
        raise InputError(
            f"the spec names code to import, {name.kind}:{name.name}",
            hint="repeat it with --backbone to allow that",
        )
    return replace(name, weights=weights or spec.weights, mean=spec.mean, std=spec.std)


def _rebuild(spec: EncoderSpec, backbone: Backbone) -> Encoder:
    if backbone.weights_digest != spec.weights_digest:
        raise InputError(
            f"weights of {spec.backbone} have digest {str(backbone.weights_digest)[:12]}…, the spec says "
            f"{spec.weights_digest[:12]}…",
            hint="give the file that the encoder was made from with --weights",
        )
    graph_module, gathers = Splitter(backbone, spec.input_size).graph(spec.cut, spec.channels)
    if gathers != spec.gathers:
        raise InputError(f"the spec says {spec.gathers} gathers, the encoder has {gathers}")
    return Encoder(spec, graph_module)
