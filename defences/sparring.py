"""The small networks that a projection is trained against: an attacker and a head of a few thousand steps."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_WIDTH = 48
_HEAD_WIDTH = 32
_LARGE_MAP = 16
_SLOPE = 0.1
_DROPOUT = 0.2


class PatchDecoder(nn.Module):
    """Features (n, D', h, w) to the blocks of pixels at each place, (n, 3 block^2, h, w).

    A linear part on 3x3 neighbourhoods and one residual block, as small as a decoder can be that is worth
    fooling; gives zero at the start.
    """

    def __init__(self, channels: int, block: int) -> None:
        super().__init__()
        pixels = 3 * block**2
        self.linear = nn.Conv2d(channels, pixels, 3, padding=1)
        self.enter = nn.Conv2d(channels, _WIDTH, 3, padding=1)
        self.first = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.second = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.leave = nn.Conv2d(_WIDTH, pixels, 3, padding=1)
        for last in (self.linear, self.leave):
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> Tensor:
        x = functional.leaky_relu(self.enter(features), _SLOPE)
        x = x + self.second(functional.leaky_relu(self.first(x), _SLOPE))
        out: Tensor = self.linear(features) + self.leave(functional.leaky_relu(x, _SLOPE))
        return out


class SparringHead(nn.Module):
    """Features (n, D', h, w) to logits (n, classes): the cloud's head for convolved maps, with less width.

    Maps of one or two places are as welcome.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = channels
        while side >= _LARGE_MAP:
            blocks.append(_block(inputs, _HEAD_WIDTH, stride=2))
            inputs, side = _HEAD_WIDTH, (side + 1) // 2
        blocks.append(_block(inputs, 2 * _HEAD_WIDTH, stride=1))
        blocks.append(_block(2 * _HEAD_WIDTH, 4 * _HEAD_WIDTH, stride=2 if side >= 4 else 1))
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(8 * _HEAD_WIDTH, classes)

    def forward(self, features: Tensor) -> Tensor:
        maps = self.blocks(features)
        pooled = torch.cat((maps.mean((2, 3)), maps.amax((2, 3))), 1)
        return cast(Tensor, self.classifier(self.dropout(pooled)))


def _block(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
