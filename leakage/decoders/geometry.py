"""Where the values of a feature map lie in the image."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

GLOBAL_SIDE = 2
"""Feature maps up to this side are read as one vector: they are too coarse to be places in the image."""


class Geometry:
    """How a (C, h, w) feature map is laid on the grids that lead up to an R x R image.

    The grids halve from ceil(R / 2); ``entry`` is the smallest that the features fit in. Larger features
    are folded into channels, ``fold`` x ``fold`` at a time, so nothing is thrown away. ``grids`` are those
    that the network computes on, coarse to fine; each place of the last becomes ``block`` x ``block``
    pixels. The way up from a coarse entry ends a grid early: what is lost there has no fine detail, and
    the time is better spent on the coarse grids.
    """

    def __init__(self, feature_shape: tuple[int, int, int], image_size: int) -> None:
        channels, height, width = feature_shape
        side = max(height, width)
        grids = [math.ceil(image_size / 2)]
        while grids[-1] > 4:
            grids.append(math.ceil(grids[-1] / 2))
        self.image_size = image_size
        self.vector = side <= GLOBAL_SIDE
        self.fold = 1 if side <= grids[0] else math.ceil(side / grids[0])
        fitting = [grid for grid in grids if grid >= side]
        self.entry = fitting[-1] if fitting else grids[0]
        grids = grids[: grids.index(self.entry) + 1]
        self.block = 4 if len(grids) > 2 else 2
        self.grids = tuple(reversed(grids[1:] if len(grids) > 2 else grids))
        self.channels = channels * height * width if self.vector else channels * self.fold**2

    def lay(self, features: Tensor) -> Tensor:
        """(n, C, h, w) -> (n, ``channels``, entry, entry), or (n, ``channels``, 1, 1) for a vector."""
        if self.vector:
            return features.flatten(1)[:, :, None, None]
        side = self.entry * self.fold
        if features.shape[2:] != (side, side):
            features = functional.interpolate(features, (side, side), mode="bilinear", align_corners=False)
        return functional.pixel_unshuffle(features, self.fold) if self.fold > 1 else features
