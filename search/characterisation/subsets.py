"""Random channel subsets, and the best linear answer of any of them from one set of moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import InputError

_RELATIVE_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_PROBED_OUTPUTS = 96
"""Targets by which the ridge is chosen, evenly spaced."""


@dataclass(frozen=True)
class Subset:
    """Kept channels int64 (k,), ascending, and their linear answer.

    ``weight``: float32 (outputs, k * regressors per channel). ``rest``: the held-out squared error that the
    linear answer leaves, as a share of the targets' squares.
    """

    channels: Tensor
    weight: Tensor
    rest: float


def check_subset(channels: Sequence[int], available: int) -> list[int]:
    """The channels in ascending order; ``InputError`` where there is none, one twice, or one too large."""
    kept = sorted(int(channel) for channel in channels)
    if not kept or kept[0] < 0 or kept[-1] >= available or len(set(kept)) < len(kept):
        raise InputError(
            f"channels {kept[:8]} of {available}",
            hint=f"needed: different ones, each from 0 to {available - 1}",
        )
    return kept


def draw_subset(rng: np.random.Generator, available: int) -> list[int]:
    """A random subset: its size uniform in the logarithm from 1 to ``available``, its channels alike."""
    size = round(math.exp(rng.uniform(math.log(0.75), math.log(available + 0.25))))
    return sorted(rng.permutation(available)[: min(max(size, 1), available)].tolist())


class SubsetRegression(nn.Module):
    """Ridge regression on any subset of channels, from sums over training and held-out rows.

    Regressors are ordered by channel, ``per_channel`` of them each; targets have mean zero. The sums are
    buffers: ``gram`` (inputs, inputs) and ``cross`` (inputs, outputs), float32, for both sets of rows.
    Without inputs there is no linear answer: the weights are empty.
    """

    gram: Tensor
    cross: Tensor
    val_gram: Tensor
    val_cross: Tensor
    val_squares: Tensor

    def __init__(self, channels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.channels, self.per_channel = channels, inputs // channels
        for name in ("gram", "val_gram"):
            self.register_buffer(name, torch.zeros(inputs, inputs))
        for name in ("cross", "val_cross"):
            self.register_buffer(name, torch.zeros(inputs, outputs))
        self.register_buffer("val_squares", torch.ones(outputs))

    def regressors(self, kept: Sequence[int]) -> Tensor:
        """The positions of these channels' regressors, int64."""
        first = torch.as_tensor(list(kept))[:, None] * self.per_channel
        return (first + torch.arange(self.per_channel)).flatten()

    def solve(self, kept: Sequence[int]) -> Subset:
        """The linear answer of these channels, with the ridge that is best on the held-out rows."""
        channels = torch.as_tensor(list(kept))
        outputs = self.cross.shape[1]
        if not len(self.gram):
            return Subset(channels, torch.zeros(0, 0), 1.0)
        rows = self.regressors(kept)
        gram, val_gram = (sums[rows][:, rows].double() for sums in (self.gram, self.val_gram))
        cross, val_cross = (sums[rows].double() for sums in (self.cross, self.val_cross))
        probed = slice(None, None, -(-outputs // _PROBED_OUTPUTS))
        squares = float(self.val_squares[probed].double().sum())
        scale = float(gram.diagonal().mean())
        least, best = 0.0, None
        for relative in _RELATIVE_RIDGES if scale > 0 else ():
            damped = gram.clone()
            damped.diagonal().add_(relative * scale)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if int(failed):
                continue
            weight = torch.cholesky_solve(cross[:, probed], factor)
            error = float((weight * (val_gram @ weight - 2 * val_cross[:, probed])).sum())
            if error < least:
                least, best = error, factor
            elif best is not None:
                break  # the held-out error has one minimum in the ridge
        if best is None:
            return Subset(channels, torch.zeros(outputs, len(rows)), 1.0)
        weight = torch.cholesky_solve(cross, best).T.float().contiguous()
        return Subset(channels, weight, min(1.0, max(1e-4, 1 + least / squares)))


class SubsetPool:
    """Solved random subsets to train with."""

    SIZE = 48

    def __init__(self, regression: SubsetRegression, rng: np.random.Generator) -> None:
        self._regression, self._rng = regression, rng
        self._pool: list[Subset] = []

    def renew(self) -> None:
        """Draw ``SIZE`` others in their place."""
        self._pool = fixed_subsets(self._regression, self._rng, self.SIZE)

    def draw(self, count: int) -> list[Subset]:
        """``count`` different subsets of the pool."""
        return [self._pool[place] for place in self._rng.permutation(len(self._pool))[:count]]


def fixed_subsets(regression: SubsetRegression, rng: np.random.Generator, count: int) -> list[Subset]:
    """``count`` solved random subsets."""
    return [regression.solve(draw_subset(rng, regression.channels)) for _ in range(count)]


def masks(subsets: Sequence[Subset], counts: Sequence[int], channels: int) -> Tensor:
    """float32 (sum of ``counts``, channels): 1 where a row's subset keeps a channel, else 0."""
    rows = torch.zeros(len(subsets), channels)
    for row, subset in zip(rows, subsets, strict=True):
        row[subset.channels] = 1
    return rows.repeat_interleave(torch.as_tensor(list(counts)), dim=0)


def split_evenly(rows: int, parts: int) -> list[int]:
    """``rows`` as ``parts`` counts that differ by one at most."""
    return [rows * (part + 1) // parts - rows * part // parts for part in range(parts)]


class MaskCode(nn.Module):
    """What the rest of a network is told of the mask: a scale and a shift for each channel of its layers.

    FiLM (Perez et al. 2018), and nothing at the start. Masks float32 (n, channels) -> for each width w a pair
    of (n, w, 1, 1).
    """

    def __init__(self, channels: int, widths: Sequence[int], *, hidden: int = 128) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.layers = nn.Sequential(
            nn.Linear(channels + 1, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, 2 * sum(widths))
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        count = mask.sum(1, keepdim=True)
        code = torch.cat((mask * gains(mask), count.log()), dim=1)
        parts = self.layers(code)[:, :, None, None].split([2 * width for width in self.widths], dim=1)
        return [(part.chunk(2, dim=1)[0], part.chunk(2, dim=1)[1]) for part in parts]


def gains(mask: Tensor) -> Tensor:
    """(n, 1): what keeps the size of a sum over kept channels alike, however few they are."""
    return (mask.shape[1] / mask.sum(1, keepdim=True)).sqrt()
