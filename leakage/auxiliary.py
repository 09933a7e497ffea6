"""Procedural images that stand for another domain than the private one.

Dead leaves: opaque shapes with power-law sizes fall on each other until they cover the image, which gives
the edges, the occlusions and the spectrum of natural images (Lee, Mumford and Huang 2001). Networks can be
trained on such images (Baradad et al. 2021, arXiv 2106.05963), and they belong to nobody.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 64
_LEAVES = 48
# Radii relative to the image's side, with density r^-3: all scales look alike. Their least one differs from
# image to image, so that some are crowded and some are plain.
_LEAST, _MOST = (0.04, 0.3), 0.7
# Colours vary along light against dark, blue against yellow, red against green: the axes of natural images,
# with standard deviations much as theirs. Columns: axes.
_AXES = np.array([[1.0, 0.75, 0.6], [1.0, 0.1, -0.7], [1.0, -0.85, 0.1]], np.float32)
_IMAGE_SPREAD = np.array([0.13, 0.06, 0.025], np.float32)
_LEAF_SPREAD = np.array([0.27, 0.09, 0.04], np.float32)


def dead_leaves(n: int, size: int, *, seed: int) -> NDArray[np.uint8]:
    """uint8 (n, size, size, 3) dead-leaves images; the same seed gives the same, and fewer are the first."""
    images = np.empty((n, size, size, 3), np.uint8)
    for start in range(0, n, _CHUNK):
        count = min(_CHUNK, n - start)
        images[start : start + count] = _chunk(size, np.random.default_rng([seed, start]))[:count]
    return images


def _chunk(size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """``_CHUNK`` images, leaf after leaf over all of them."""
    y, x = np.mgrid[:size, :size].astype(np.float32) + np.float32(0.5)
    base = 0.46 + (rng.standard_normal((_CHUNK, 3), np.float32) * _IMAGE_SPREAD) @ _AXES.T
    contrast = rng.uniform(0.5, 1.4, (_CHUNK, 1)).astype(np.float32)
    least = np.exp(rng.uniform(np.log(_LEAST[0]), np.log(_LEAST[1]), _CHUNK))
    canvas = np.empty((_CHUNK, 3, size, size), np.float32)
    canvas[:] = base[:, :, None, None]
    for _ in range(_LEAVES):
        radius = size * _radii(least, rng)
        across, along = _placed(x, y, size, rng)
        colour = base + contrast * ((rng.standard_normal((_CHUNK, 3), np.float32) * _LEAF_SPREAD) @ _AXES.T)
        stretch = rng.uniform(0.45, 1, _CHUNK).astype(np.float32)
        distance = _distance(across / _tall(radius), along / _tall(radius * stretch), int(rng.integers(3)))
        # edges one pixel wide
        cover = np.clip((1 - distance) * _tall(radius * stretch) + 0.5, 0, 1)[:, None]
        # each leaf is lit from a side of its own
        steepness = rng.normal(0, 0.12, _CHUNK) / np.maximum(radius, 1)
        slope = _tall(steepness.astype(np.float32))
        leaf = colour[:, :, None, None] * (1 + np.clip(slope * across, -0.5, 0.5))[:, None]
        canvas += cover * (leaf - canvas)
    grain = rng.standard_normal(canvas.shape, np.float32) * rng.uniform(0, 0.02, (_CHUNK, 1, 1, 1))
    return np.rint(np.clip(canvas + grain, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def _radii(least: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """(_CHUNK,) from ``least`` (_CHUNK,) to _MOST with density r^-3, by inversion of its distribution."""
    fine, coarse = least**-2, _MOST**-2.0
    radii: NDArray[np.float64] = (fine + rng.uniform(0, 1, _CHUNK) * (coarse - fine)) ** -0.5
    return radii.astype(np.float32)


def _placed(
    x: NDArray[np.float32], y: NDArray[np.float32], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates (_CHUNK, size, size) about random centres, turned by random angles."""
    centres = _tall(rng.uniform(-0.1, 1.1, (2, _CHUNK)).astype(np.float32).T * size)
    angles = _tall(rng.uniform(0, 2 * np.pi, _CHUNK).astype(np.float32))
    right, down = x - centres[:, 0], y - centres[:, 1]
    cosine, sine = np.cos(angles), np.sin(angles)
    return cosine * right + sine * down, cosine * down - sine * right


def _distance(u: NDArray[np.float32], v: NDArray[np.float32], kind: int) -> NDArray[np.float32]:
    """From the centre, 1 at the edge: of an ellipse, a rectangle or a triangle."""
    if kind == 0:
        return np.sqrt(u * u + v * v)
    if kind == 1:
        return np.maximum(abs(u), abs(v))
    return np.maximum(-2 * v, v + np.float32(3**0.5) * abs(u))


def _tall(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(_CHUNK, ...) -> (_CHUNK, ..., 1, 1)."""
    return values[..., None, None]
