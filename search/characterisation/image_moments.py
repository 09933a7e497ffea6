"""What the features of a cut tell linearly about the image around each place: second moments, summed once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

FLOPS = 5e10
"""Floating-point operations that summing the moments may take: a second or two of one core."""
MAX_INPUTS = {5: 800, 3: 2304}
"""Most regressors, all channels together, by the side of the neighbourhood: early maps of few channels need a
wide one, for many channels a narrow one is quick. With more, the place alone."""
WHOLE_SIDE = 2
"""Maps up to this side are too coarse to be places: all values explain the whole image."""
MAX_BLOCK = 32
"""Pixels; finer detail of a larger block counts as lost, which keeps the moments small."""

_VAL_SHARE = 0.5
_MIN_PLACES_A_SIDE = 4
_BATCH_VALUES = 2**22


@dataclass(frozen=True)
class ImageMoments:
    """Means over places of products of regressors and pixels, on pairs to fit and pairs to validate.

    A regressor is one channel at one of ``taps`` places of a neighbourhood; they are counted channel by
    channel: ``gram`` is (C * taps, C * taps), ``cross`` (C * taps, pixels), both float32. Features and pixels
    are deviations from their mean maps on the pairs to fit, zero outside the map.
    """

    channels: int
    taps: int
    gram: NDArray[np.float32]
    cross: NDArray[np.float32]
    val_gram: NDArray[np.float32]
    val_cross: NDArray[np.float32]
    val_power: float
    """Mean over places of the summed squared deviations of the block's pixels, with detail that ``cross``
    leaves out."""
    inside: NDArray[np.float32]
    """(taps,): how often the neighbour lies inside the map; noise is added only there."""
    pooled_values: float
    """How many values of the features were averaged into one here, which averages their noise as well."""

    @classmethod
    def of_pairs(
        cls,
        features: NDArray[Any],
        images: NDArray[np.uint8],
        val_features: NDArray[Any],
        val_images: NDArray[np.uint8],
        *,
        flops: float = FLOPS,
        seed: int = 0,
    ) -> ImageMoments:
        """Sum the moments of pairs: features (n, C, h, w) of any float type, images uint8 (n, R, R, 3).

        Features may be memory-mapped and are read twice, batch by batch. Where all places of all images
        would take more than ``flops`` operations, every t-th place is used, and then fewer images.
        """
        layout = _Layout(features.shape[1], max(features.shape[2:]), images.shape[1])
        rows = max(1, int(flops / layout.flops))
        mean_map, mean_image = _means(features, images, layout)
        fitted = _Sums(layout, seed)
        fitted.add(features, images, mean_map, mean_image, rows=rows)
        val = _Sums(layout, seed + 1)
        val.add(val_features, val_images, mean_map, mean_image, rows=max(1, int(rows * _VAL_SHARE)))
        return cls(
            channels=layout.channels,
            taps=layout.taps,
            gram=fitted.mean(fitted.gram),
            cross=fitted.mean(fitted.cross),
            val_gram=val.mean(val.gram),
            val_cross=val.mean(val.cross),
            val_power=val.power / val.rows,
            inside=val.mean(val.inside),
            pooled_values=layout.pooled_values,
        )


class _Layout:
    """How a map of ``side`` and an image of ``size`` pixels fit onto one grid of places."""

    def __init__(self, channels: int, side: int, size: int) -> None:
        self.channels = channels
        # Each place has a whole number of pixels: coarser maps are enlarged a little, finer ones pooled.
        self.grid = next((grid for grid in range(side, size) if size % grid == 0), size)
        self.pooled_values = max(1.0, (side / self.grid) ** 2)
        self.kernel = next((wide for wide, most in MAX_INPUTS.items() if channels * wide**2 <= most), 1)
        self.whole = self.grid <= WHOLE_SIDE and (side == 1 or channels * self.grid**2 <= MAX_INPUTS[3])
        self.block = size if self.whole else size // self.grid
        self.shrink = next(factor for factor in range(1, size + 1) if _fits(self.block, factor))
        self.taps = self.grid**2 if self.whole else self.kernel**2
        self.inputs = channels * self.taps
        self.outputs = 3 * (self.block // self.shrink) ** 2
        self.flops = 2.0 * self.inputs * (self.inputs + self.outputs)

    def stride(self, images: int, rows: int) -> int:
        """Every how many places along a side one is used."""
        if self.whole:
            return 1
        fits = (t for t in range(1, self.grid + 1) if images * (self.grid / t) ** 2 <= rows)
        return max(1, min(next(fits, self.grid), self.grid // _MIN_PLACES_A_SIDE))

    def images(self, rows: int, stride: int) -> int:
        """How many images give so many rows."""
        places = 1.0 if self.whole else (self.grid / stride) ** 2
        return max(1, int(rows / places))

    def lay(self, features: Tensor) -> Tensor:
        """float32 (n, C, h, w) -> (n, C, grid, grid)."""
        if features.shape[2:] == (self.grid, self.grid):
            return features
        if self.pooled_values > 1:
            return functional.adaptive_avg_pool2d(features, self.grid)
        return functional.interpolate(features, (self.grid, self.grid), mode="bilinear", align_corners=False)

    def regressors(self, laid: Tensor, offset: tuple[int, int], stride: int) -> Tensor:
        """Rows (m, inputs) for every ``stride``-th place from ``offset`` on."""
        if self.whole:
            return laid.flatten(1)
        reach = self.kernel // 2
        padded = functional.pad(laid, (reach, reach, reach, reach))[:, :, offset[0] :, offset[1] :]
        columns = functional.unfold(padded, self.kernel, stride=stride)
        return columns.transpose(1, 2).flatten(0, 1)

    def pixels(self, deviations: Tensor, offset: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
        """Rows (m, outputs) of the same places, and all their squared deviations summed."""
        blocks = functional.pixel_unshuffle(deviations, self.block)[
            :, :, offset[0] :: stride, offset[1] :: stride
        ]
        power = blocks.square().sum(dtype=torch.float64)
        if self.shrink > 1:
            # Block means, scaled so that squared errors keep their size.
            small = functional.avg_pool2d(deviations, self.shrink) * self.shrink
            blocks = functional.pixel_unshuffle(small, self.block // self.shrink)
            blocks = blocks[:, :, offset[0] :: stride, offset[1] :: stride]
        return blocks.flatten(2).transpose(1, 2).flatten(0, 1), power


class _Sums:
    """Sums of products over rows."""

    def __init__(self, layout: _Layout, seed: int) -> None:
        self.layout, self.rng = layout, np.random.default_rng(seed)
        self.gram = torch.zeros(layout.inputs, layout.inputs, dtype=torch.float64)
        self.cross = torch.zeros(layout.inputs, layout.outputs, dtype=torch.float64)
        self.inside = torch.zeros(layout.taps, dtype=torch.float64)
        self.power, self.rows = 0.0, 0

    def add(
        self,
        features: NDArray[Any],
        images: NDArray[np.uint8],
        mean_map: Tensor,
        mean_image: Tensor,
        *,
        rows: int,
    ) -> None:
        layout = self.layout
        stride = layout.stride(len(features), rows)
        chosen = np.sort(self.rng.permutation(len(features))[: layout.images(rows, stride)])
        ones = torch.ones(1, 1, layout.grid, layout.grid)
        # Every offset in turn: what a place sees may depend on where in the grid it lies.
        offsets = itertools.cycle(divmod(int(at), stride) for at in self.rng.permutation(stride**2))
        step = min(_batch(layout.inputs * layout.grid**2 // stride**2), -(-len(chosen) // stride**2))
        for part, offset in zip(_batches(chosen, step), offsets, strict=False):
            laid = layout.lay(_float(features[part])) - mean_map
            x = layout.regressors(laid, offset, stride)
            y, power = layout.pixels(_deviations(images[part], mean_image), offset, stride)
            self.gram += x.T @ x
            self.cross += x.T @ y
            self.inside += layout.regressors(ones, offset, stride).sum(0) * len(part)
            self.power += float(power)
            self.rows += len(x)

    def mean(self, total: Tensor) -> NDArray[np.float32]:
        result: NDArray[np.float32] = (total / self.rows).float().numpy()
        return result


def _means(features: NDArray[Any], images: NDArray[np.uint8], layout: _Layout) -> tuple[Tensor, Tensor]:
    """The mean laid map (1, C, grid, grid) and the mean image (1, 3, R, R) in [0, 1]."""
    total = torch.zeros(features.shape[1:], dtype=torch.float64)
    for part in _batches(np.arange(len(features)), _batch(int(np.prod(features.shape[1:])))):
        total += _float(features[part]).sum(0)
    mean_map = layout.lay((total / len(features)).float()[None])
    mean_image = torch.from_numpy(images.mean(0, dtype=np.float64)).float().permute(2, 0, 1)[None] / 255
    return mean_map, mean_image


def _deviations(images: NDArray[np.uint8], mean_image: Tensor) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean_image


def _float(features: NDArray[Any]) -> Tensor:
    # A copy: torch takes no array that cannot be written, and a slice of a memory map cannot.
    return torch.from_numpy(np.array(features)).float()


def _batch(values: int) -> int:
    """How many rows of so many values are read at a time."""
    return max(1, _BATCH_VALUES // max(1, values))


def _batches(rows: NDArray[np.int64], step: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), step):
        yield rows[start : start + step]


def _fits(block: int, factor: int) -> bool:
    return block % factor == 0 and block // factor <= MAX_BLOCK
