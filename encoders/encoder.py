"""The encoder: what runs on the device, as a torch module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..errors import InputError
from .adapted import adapted_graph, parameters_digest
from .costs import Costs, graph_costs
from .payload import Payload, sent
from .projection import Matrix, matrix_of
from .spec import Adapted, EncoderSpec, Int8

_BATCH = 128


class Encoder(nn.Module):
    """A frozen encoder.

    Input: uint8 (N, input_size, input_size, 3), RGB as a camera gives it. What leaves the device: the
    features (C, h, w), with noise where the spec has any, in the spec's payload format.
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
        """(C, h, w) of the features of one image."""
        output = next(node for node in self.graph_module.graph.nodes if node.op == "output")
        _, channels, height, width = output.all_input_nodes[0].meta["shape"]
        return channels, height, width

    @property
    def projection(self) -> Matrix | None:
        """The matrix (C, kept channels) of the mixtures that are sent; ``None`` where the channels are."""
        return matrix_of(self.graph_module) if self.spec.projection else None

    @property
    def noise_std(self) -> float:
        """Standard deviation of the noise on each value; 0 for none."""
        return self.spec.noise_std

    @property
    def payload(self) -> Payload:
        """The format of what leaves the device."""
        return self.spec.payload

    @property
    def payload_bytes(self) -> int:
        """What leaves the device for one image."""
        return self.payload.bytes(self.feature_shape)

    @property
    def costs(self) -> Costs:
        """The costs of one image.

        ``payload_bytes`` is that of the payload format. The operations that add noise and quantise, a few per
        value of the features, are not counted, nor is what memory they take beside the network's.
        """
        return replace(graph_costs(self.graph_module), payload_bytes=self.payload_bytes)

    def features(self, images: Tensor) -> Tensor:
        """Images, uint8 or float of 0 to 255, (n, H, H, 3) -> float32 (n, C, h, w), without noise, not
        quantised; differentiable in the images."""
        features: Tensor = self.graph_module(images)
        return features

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """What leaves the device for images (n, H, H, 3).

        ``noise``: standard normal float32 (n, C, h, w), scaled by ``noise_std`` here; none counts as zeros.
        The result is float32 (n, C, h, w) for a payload of 32 bits, uint8 (n, C, h, w) for 8, uint8
        (n, payload_bytes) for 4 and 2. Raises ``ValueError`` for noise where the spec has none.
        """
        features = self.features(images)
        if noise is not None:
            if not self.noise_std:
                raise ValueError("this encoder adds no noise")
            features = features + noise * self.noise_std
        return sent(features, self.payload)

    @torch.inference_mode()
    def send(self, images: NDArray[np.uint8], noise: NDArray[np.float32] | None = None) -> NDArray[Any]:
        """``forward`` for arrays, in batches."""
        device = next(self.graph_module.buffers()).device
        result = np.empty((len(images), *self.payload.sent_shape(self.feature_shape)), self.payload.dtype)
        for at in range(0, len(images), _BATCH):
            part = slice(at, at + _BATCH)
            added = None if noise is None else torch.from_numpy(noise[part]).to(device)
            result[part] = self(torch.from_numpy(images[part]).to(device), added).cpu().numpy()
        return result

    def encode(
        self, images: NDArray[np.uint8], *, generator: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        """Images (n, H, H, 3) -> features (n, C, h, w) as the cloud reads them: with noise, dequantised.

        Noise is drawn from ``generator``; without one, from a fresh one of the operating system's entropy.
        """
        noise = None
        if self.noise_std:
            generator = np.random.default_rng() if generator is None else generator
            noise = generator.standard_normal((len(images), *self.feature_shape), np.float32)
        return self.payload.decode(self.send(images, noise), self.feature_shape)

    def sending(self, *, payload: Payload | None = None, noise_std: float | None = None) -> Encoder:
        """The same network with another payload or noise, as a new spec.

        Raises:
            InputError: a negative or infinite ``noise_std``.
        """
        if noise_std is not None and not 0 <= noise_std < math.inf:
            raise InputError(f"noise_std is {noise_std:g}", hint="give 0 or more")
        changes: dict[str, Any] = {} if payload is None else {"payload": payload}
        changes |= {} if noise_std is None else {"noise_std": float(noise_std)}
        return Encoder(self.spec.model_copy(update=changes), self.graph_module)

    def plain(self) -> Encoder:
        """The same network without noise, sending its features in float32, as a new spec."""
        return self.sending(payload=Payload(), noise_std=0.0).in_int8(None)

    def in_int8(self, int8: Int8 | None) -> Encoder:
        """The same network, to be exported in integers on these grids, or in float32, as a new spec.

        In torch it computes in float32 either way: what the device sends is what the exported file gives.
        """
        return Encoder(self.spec.model_copy(update={"int8": int8}), self.graph_module)

    def adapt(self, state: Mapping[str, Tensor], *, method: Literal["nopeek"], alpha: float) -> Encoder:
        """A new encoder with other weights: all of ``graph_module``'s parameters, by their names there.

        ``method`` and ``alpha`` say how they came to be. Normalisation that was not folded keeps its running
        statistics. A projection is one of the parameters.

        Raises:
            InputError: a tensor is missing, foreign, of another shape, or not finite.
        """
        graph_module = adapted_graph(self.graph_module, state, source="the adapted weights")
        adapted = Adapted(method=method, alpha=alpha, digest=parameters_digest(graph_module))
        changes = {"adapted": adapted, "adapted_weights": None, "projection_weights": None}
        return Encoder(self.spec.model_copy(update=changes), graph_module)
