"""What a black-box attacker holds: images and what an encoder sent for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True)
class Pairs:
    """Images with their features and labels.

    ``features``: float16 or float32 (n, C, h, w), may be a memory map: it is read batch by batch.
    ``images``: uint8 (n, R, R, 3), RGB, R at least 16. ``labels``: int64 (n,).
    Shapes or types that do not fit raise ``InputError``.
    """

    features: NDArray[Any]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.features.ndim != 4 or not np.issubdtype(self.features.dtype, np.floating):
            raise InputError(
                f"features are {self.features.dtype} {self.features.shape}", hint="needed: float (n, C, h, w)"
            )
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or self.images.shape[3] != 3:
            raise InputError(
                f"images are {self.images.dtype} {self.images.shape}", hint="needed: uint8 (n, R, R, 3)"
            )
        if self.images.shape[1] != self.images.shape[2] or self.images.shape[1] < 16:
            raise InputError(
                f"images have {self.images.shape[1]}x{self.images.shape[2]} pixels",
                hint="needed: square, at least 16x16",
            )
        counts = (len(self.features), len(self.images), len(self.labels))
        if len(set(counts)) > 1 or not counts[0]:
            raise InputError(
                f"{counts[0]} features, {counts[1]} images, {counts[2]} labels",
                hint="needed: as many, 1 or more",
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one image's features."""
        channels, height, width = self.features.shape[1:]
        return int(channels), int(height), int(width)

    @property
    def image_size(self) -> int:
        """R: pixels along an image's side."""
        return int(self.images.shape[1])
