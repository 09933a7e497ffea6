"""The networks that are trained in the cloud on what the encoder sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import InputError, unknown

LARGE_MAP = 16
"""From this side on (pixels) a feature map is halved before anything else is computed on it."""

SMALLEST_CONVOLVED_MAP = 3
"""Below this side a 3x3 convolution sees mostly padding."""


class Standardise(nn.Module):
    """Per-channel standardisation with fixed statistics.

    Input and output: float32 (N, C, h, w). The statistics are buffers, so that they travel with the weights:
    the encoder's outputs differ in scale by orders of magnitude from channel to channel.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Per-channel mean and standard deviation, (C,) each; a constant channel keeps scale 1."""
        self.mean.copy_(mean.reshape(-1, 1, 1))
        self.scale.copy_(torch.where(std > 0, 1 / std, torch.ones_like(std)).reshape(-1, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.scale


def _conv_block(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class ConvHead(nn.Module):
    """Three convolutions, global average and maximum pooling, a linear classifier.

    Input: float32 (N, C, h, w). Output: logits, float32 (N, classes). Maps of ``LARGE_MAP`` and more are
    halved by strided convolutions until they are smaller, so the work does not grow with the map's area.
    """

    def __init__(
        self, feature_shape: tuple[int, int, int], classes: int, *, width: int = 48, dropout: float = 0.2
    ) -> None:
        super().__init__()
        channels, height, map_width = feature_shape
        self.standardise = Standardise(channels)
        blocks = nn.Sequential()
        inputs, side = channels, min(height, map_width)
        while side >= LARGE_MAP:
            blocks.append(_conv_block(inputs, width, stride=2))
            inputs, side = width, (side + 1) // 2
        blocks.append(_conv_block(inputs, 2 * width, stride=1))
        blocks.append(_conv_block(2 * width, 4 * width, stride=2 if side >= 4 else 1))
        self.blocks = blocks
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(8 * width, classes)

    def forward(self, features: Tensor) -> Tensor:
        maps = self.blocks(self.standardise(features))
        pooled = torch.cat((maps.mean((2, 3)), maps.amax((2, 3))), dim=1)
        return cast(Tensor, self.classifier(self.dropout(pooled)))


class MlpHead(nn.Module):
    """Two hidden layers on the flattened map: for maps with no or hardly any spatial extent.

    Input: float32 (N, C, h, w). Output: logits, float32 (N, classes).
    """

    def __init__(
        self, feature_shape: tuple[int, int, int], classes: int, *, width: int = 256, dropout: float = 0.2
    ) -> None:
        super().__init__()
        channels, height, map_width = feature_shape
        self.standardise = Standardise(channels)
        layers = nn.Sequential(nn.Flatten())
        inputs = channels * height * map_width
        for _ in range(2):
            layers.extend((nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)))
            inputs = width
        self.layers = layers
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.layers(self.standardise(features))))


class LinearHead(nn.Module):
    """A linear classifier on the flattened map: the plainest thing that can be trained.

    Input: float32 (N, C, h, w). Output: logits, float32 (N, classes).
    """

    def __init__(self, feature_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = feature_shape
        self.standardise = Standardise(channels)
        self.classifier = nn.Linear(channels * height * width, classes)

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.standardise(features).flatten(1)))


Head = ConvHead | MlpHead | LinearHead

_HEADS: dict[str, Callable[..., Head]] = {"conv": ConvHead, "mlp": MlpHead, "linear": LinearHead}

HEADS = ("auto", *_HEADS)
"""What ``model`` may be: ``auto`` is ``conv``, or ``mlp`` where the map is too small to convolve."""


def resolve(model: str, feature_shape: tuple[int, int, int]) -> str:
    """The name behind ``auto``; another name unchanged. Raises ``InputError`` for an unknown one."""
    if model not in HEADS:
        raise unknown("head model", model, HEADS)
    if model != "auto":
        return model
    return "conv" if min(feature_shape[1:]) >= SMALLEST_CONVOLVED_MAP else "mlp"


def build_head(model: str, feature_shape: tuple[int, int, int], classes: int, **arguments: Any) -> Head:
    """An untrained head for features of this shape (C, h, w).

    ``arguments`` are the model's own (``width``, ``dropout``). Weights come from torch's global generator.
    Raises ``InputError`` for an unknown model or argument, fewer than two classes, or a shape that is not
    three positive sizes.
    """
    name = resolve(model, feature_shape)
    if len(feature_shape) != 3 or min(feature_shape) < 1:
        raise InputError(f"feature shape {feature_shape} is not (channels, height, width)")
    if classes < 2:
        raise InputError(f"{classes} classes cannot be told apart", hint="at least 2 are needed")
    try:
        return _HEADS[name](feature_shape, classes, **arguments)
    except TypeError as error:
        raise InputError(f"head model {name!r} does not take {sorted(arguments)}") from error
