"""What tells one channel from another whatever the images: statistics of its values, robust to the domain.

Per channel: shares of values at zero and above thresholds that all channels share, moments on a grid of
places that has the border apart (where padding shows), extreme values, correlation between neighbours,
variance between images. Per pair of channels: correlations, at the same place and between neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_THRESHOLDS = np.concatenate([np.linspace(0.02, 0.98, 20), [0.99, 0.995, 0.998, 0.9995]])
_PLACES = 64
_SAMPLE = 200_000
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
_PAIR_OFFSETS = ((0, 0), (0, 1), (1, 0))
_PAIR_ROWS = 16_384
_MOST_CORRELATED = 0.98


@dataclass(frozen=True)
class Reference:
    """What statistics are taken in: places, thresholds and a scale, from the candidates' values."""

    places: NDArray[np.int64]
    thresholds: NDArray[np.float32]
    scale: float

    @classmethod
    def of(cls, features: NDArray[np.float32], rng: np.random.Generator) -> Reference:
        """From the features of all candidates, (m, D, h, w)."""
        m, channels, height, width = features.shape
        places = np.sort(rng.permutation(height * width)[:_PLACES])
        values = features.reshape(m, channels, -1)
        drawn = values[
            rng.integers(m, size=_SAMPLE), rng.integers(channels, size=_SAMPLE), rng.choice(places, _SAMPLE)
        ]
        scale = float(drawn.std()) or 1.0
        return cls(places, np.unique(np.quantile(drawn, _THRESHOLDS)).astype(np.float32), scale)


class ChannelStatistics:
    """Of features (n, C, h, w), kept per image so that any group of images has its statistics at once."""

    def __init__(self, features: NDArray[np.float32], reference: Reference) -> None:
        self.reference = reference
        self.means, self.areas = cells(features)
        self.squares, _ = cells(np.square(features))
        values = features.reshape(*features.shape[:2], -1)[:, :, reference.places]
        above = [(values > level).mean(axis=2, dtype=np.float32) for level in reference.thresholds]
        self.shares = np.stack([*above, (values == 0).mean(axis=2, dtype=np.float32)], axis=2)
        steps = [
            np.square(np.subtract(*_shifted(features, offset))).mean(axis=(2, 3), dtype=np.float32)
            for offset in _NEIGHBOURS
            if _fits(features, offset)
        ]
        self.steps = np.stack(steps, axis=2) if steps else np.zeros((*features.shape[:2], 0), np.float32)
        self.extremes = np.stack([features.max(axis=(2, 3)), features.min(axis=(2, 3))], axis=2)

    @property
    def image_summaries(self) -> NDArray[np.float32]:
        """Mean and standard deviation of each channel in each image, (n, 2 C)."""
        means = self.means @ self.areas
        deviations = np.sqrt(np.maximum(self.squares @ self.areas - means**2, 0))
        return np.concatenate([means, deviations], axis=1)

    def describe(self, rows: NDArray[np.int64] | slice = slice(None)) -> Floats:
        """The statistics over some images, each on a scale on which differences compare, (C, F)."""
        scale = self.reference.scale
        means, squares, shares, steps, extremes = (
            values[rows].mean(axis=0, dtype=np.float64)
            for values in (self.means, self.squares, self.shares, self.steps, self.extremes)
        )
        overall = means @ self.areas
        variance = np.maximum(squares @ self.areas - overall**2, 1e-8 * scale**2)
        between = (self.means[rows] @ self.areas).var(axis=0)
        deviation = np.sqrt(np.maximum(squares - means**2, 0))
        count = len(self.means[rows]) * len(self.reference.places)
        return np.concatenate(
            [
                np.arcsinh(2 * means / scale),
                np.log(deviation / scale + 0.02),
                np.log((shares * count + 0.5) / ((1 - shares) * count + 0.5)),
                np.log(variance / scale**2 + 1e-3)[:, None] / 2,
                np.log(steps / variance[:, None] + 0.01),
                np.sqrt(between / variance)[:, None],
                np.arcsinh(2 * extremes / scale),
                (means - overall[:, None]) / np.sqrt(variance)[:, None],
            ],
            axis=1,
        )


def pair_correlations(features: NDArray[np.float32]) -> list[Floats]:
    """Fisher's z of each channel's correlation (rows) with each (columns), at some offsets: (C, C) each."""
    found = []
    for offset in _PAIR_OFFSETS:
        if not _fits(features, offset):
            continue
        here, there = (
            part.transpose(0, 2, 3, 1).reshape(-1, features.shape[1]) for part in _shifted(features, offset)
        )
        every = max(1, len(here) // _PAIR_ROWS)
        here, there = (_standardised(part[::every]) for part in (here, there))
        correlation = (here.T @ there / len(here)).astype(np.float64)
        found.append(np.arctanh(np.clip(correlation, -_MOST_CORRELATED, _MOST_CORRELATED)))
    return found


def _standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = values - values.mean(axis=0)
    deviation = np.sqrt(np.square(centred).mean(axis=0))
    return np.asarray(centred / np.maximum(deviation, 1e-6), np.float32)


def _fits(features: NDArray[np.float32], offset: tuple[int, int]) -> bool:
    height, width = features.shape[2:]
    return bool(offset[0] < height and abs(offset[1]) < width)


def _shifted(
    features: NDArray[np.float32], offset: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The values at places and those ``offset`` (down, right) of them."""
    down, right = offset
    upper, lower = features[:, :, : features.shape[2] - down], features[:, :, down:]
    width = features.shape[3] - abs(right)
    if right >= 0:
        return upper[..., :width], lower[..., right:]
    return upper[..., -right:], lower[..., :width]


def cells(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means over the cells of a coarse grid (n, C, cells), and the cells' shares of the area (cells,)."""
    rows, columns = (_edges(side) for side in features.shape[2:])
    sums = np.add.reduceat(np.add.reduceat(features, rows[:-1], axis=2), columns[:-1], axis=3)
    sizes = np.outer(np.diff(rows), np.diff(columns)).astype(np.float32)
    means = (sums / sizes).reshape(*features.shape[:2], -1)
    return np.asarray(means, np.float32), np.asarray((sizes / sizes.sum()).ravel(), np.float32)


def _edges(side: int) -> list[int]:
    """Where cells begin: the first row, two halves, the last row; each row alone where there are few."""
    return list(range(side + 1)) if side <= 4 else [0, 1, side // 2, side - 1, side]
