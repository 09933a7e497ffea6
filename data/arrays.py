"""Images that lie in memory as one uint8 array."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .resizing import squares


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images from a uint8 array (N, H, W, 1 or 3); a single channel is repeated to RGB."""

    pixels: NDArray[np.uint8]

    def read(self, indices: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        if self.pixels.shape[1:] == (size, size, 3):
            return self.pixels[indices]
        return squares((self.pixels[index] for index in indices), len(indices), size)

    def hashes(self) -> NDArray[np.uint8]:
        """(N, 32) the SHA-256 of each image's pixels."""
        return np.stack([pixel_hash(image) for image in self.pixels])


def pixel_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The SHA-256, (32,) uint8, of a decoded image (H, W, 1 or 3): shape and pixels."""
    shape = np.array(image.shape, ">u4").tobytes()
    return np.frombuffer(hashlib.sha256(shape + image.tobytes()).digest(), np.uint8)
