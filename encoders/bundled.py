"""The backbone that ships with the package, so that everything works offline.

``plain8`` is eight plain convolutions (3x3, the last 1x1), each with its normalisation and activation,
trained on CIFAR-100 by ``benchmarks/train_bundled_backbone.py``. Its weights are kept in half precision
to stay small and are used in single precision.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

NAMES = ("plain8",)
"""The bundled backbones; the first is the default."""

CLASSES = 100
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)
INPUT_SIZE = 32

_WIDTHS_AND_STRIDES = ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (192, 2))


def _block(inputs: int, outputs: int, *, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Plain8(nn.Module):
    """Eight plain convolutions, global average pooling and a linear classifier.

    Input: float32 (N, 3, H, W), H and W at least 8. Output: float32 (N, classes).
    """

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        blocks = nn.Sequential()
        inputs = 3
        for width, stride in _WIDTHS_AND_STRIDES:
            blocks.append(_block(inputs, width, kernel=3, stride=stride))
            inputs = width
        blocks.append(_block(inputs, 256, kernel=1, stride=1))
        self.blocks = blocks
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(256, classes)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.classifier(self.pool(self.blocks(images)).flatten(1))
        return features


def weights_path(name: str = NAMES[0]) -> Path:
    """Where the weights of a bundled backbone lie (a safetensors file, float16), their card (JSON) beside."""
    with as_file(files(__package__) / "weights" / f"{name}.safetensors") as path:
        return path
