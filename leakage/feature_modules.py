"""Encoders as attackers run them: on images at the reference size, differentiable."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn
from torch.nn import functional


class FeatureModule(nn.Module):
    """An encoder's graph as a ``FeatureMap``: float32 (n, 3, R, R) in [0, 1] -> float32 (n, C, h, w).

    Images are resized to the encoder's input as the device does, but for rounding to whole grey levels.
    Frozen unless its parameters are made trainable.
    """

    def __init__(self, graph_module: fx.GraphModule, image_size: int, input_size: int) -> None:
        super().__init__()
        self.graph_module = copy.deepcopy(graph_module)
        self.image_size, self.input_size = image_size, input_size
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        if self.image_size != self.input_size:
            size = (self.input_size, self.input_size)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        features: Tensor = self.graph_module((255 * images).permute(0, 2, 3, 1))
        return features


def untrained(graph_module: fx.GraphModule, image_size: int, input_size: int, *, seed: int) -> FeatureModule:
    """The same architecture with trainable random weights: what is known of an encoder by its family alone.

    Weights are drawn as He et al. (2015) do, so that activations keep their scale; biases are zero, and the
    scales of normalisations are one.
    """
    module = FeatureModule(graph_module, image_size, input_size)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        if weight.ndim > 1:
            fan_in = weight[0].numel()
            weight.data = torch.randn(weight.shape, generator=generator) * (2 / fan_in) ** 0.5
        else:
            weight.data.fill_(0.0 if name.endswith("bias") else 1.0)
    return module.requires_grad_(True)


class Identity(nn.Module):
    """The encoder that sends the image as it is: the positive control's ``FeatureMap``."""

    def forward(self, images: Tensor) -> Tensor:
        return images


class RandomColours(nn.Module):
    """A trainable 1x1 convolution: the family of the encoder that sends the image as it is."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.mix = nn.Conv2d(3, 3, 1)
        self.mix.weight.data = torch.randn(3, 3, 1, 1, generator=generator)
        nn.init.zeros_(self.mix.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        mixed: Tensor = self.mix(images)
        return mixed
