"""Images and noise that a check feeds: nobody's, and the same each time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NOISY = 2
"""How many of the images are fed once more, with noise."""


def synthetic_images(size: int, *, seed: int) -> NDArray[np.uint8]:
    """Images that are nobody's: noise, black, white, one pixel, a ramp; uint8 (5, size, size, 3)."""
    images = np.zeros((5, size, size, 3), np.uint8)
    images[0] = np.random.default_rng(seed).integers(0, 256, images[0].shape, dtype=np.uint8)
    images[2] = 255
    images[3, size // 2, size // 2] = 255
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    images[4, ..., 0], images[4, ..., 1], images[4, ..., 2] = ramp[:, None], ramp[None, :], ramp[::-1, None]
    return images


def varied_images(size: int, *, seed: int) -> NDArray[np.uint8]:
    """Noise of finer and coarser grain, strong and faint: uint8 (8, size, size, 3)."""
    draw = np.random.default_rng([seed, 2])
    images = np.empty((8, size, size, 3), np.uint8)
    for index, image in enumerate(images):
        grain, faint = 2 ** (index // 2), index % 2
        low, high = np.sort(draw.random(2)) if faint else (0.0, 1.0)
        cells = draw.random((-(-size // grain), -(-size // grain), 3))
        blown_up = cells.repeat(grain, axis=0).repeat(grain, axis=1)[:size, :size]
        image[:] = np.rint(255 * (low + (high - low) * blown_up))
    return images


def with_noise(
    images: NDArray[np.uint8], noise_shape: tuple[int, int, int] | None, *, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """Images (n, size, size, 3), and noise (n, C, h, w) for an encoder that adds any.

    All of the images with zeros for noise, then the first and the last with pseudo-random noise, which is for
    checks only and never that of a device.
    """
    if noise_shape is None:
        return images, None
    noisy = np.random.default_rng([seed, 1]).standard_normal((_NOISY, *noise_shape), np.float32)
    silence = np.zeros((len(images), *noise_shape), np.float32)
    return np.concatenate([images, images[[0, -1]]]), np.concatenate([silence, noisy])


def probes(
    size: int, noise_shape: tuple[int, int, int] | None, *, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    """:func:`with_noise` of all synthetic images."""
    return with_noise(synthetic_images(size, seed=seed), noise_shape, seed=seed)
