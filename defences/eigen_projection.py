"""A 1x1 mixing of a cut's channels that keeps the classes apart and predicts the image badly, in closed form.

Discriminant component analysis with an adversary (S.-Y. Kung, *Compressive privacy*, IEEE Signal Processing
Magazine 2017): a generalised eigenproblem of the scatter between classes against what the channels say of
the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ..errors import InputError

WEIGHT = 4.0
"""Of the image's predictability against the features' own scatter."""

_BATCH = 256
_RIDGE = 1e-4
"""Of the mean channel's variance: directions that hardly vary are not blown up."""
_NEIGHBOURS = 3
"""A place of the features sees the blocks of pixels around it too."""


@dataclass(frozen=True)
class ChannelScatter:
    """Covariances of a cut's C channels over images and places, each float64 (C, C).

    ``between``: of the class means, place by place; ``within``: of what is left. ``predictability``: the
    sum over pixels, those of a place's own block and the eight around it, of c c^T, c the covariance of the
    channels at the place with the pixel (in [0, 1]).
    """

    between: NDArray[np.float64]
    within: NDArray[np.float64]
    predictability: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """The channels' covariance."""
        return self.between + self.within


def channel_scatter(
    features: NDArray[np.floating], labels: NDArray[np.int64], images: NDArray[np.uint8]
) -> ChannelScatter:
    """The covariances of features float16 or float32 (n, C, h, w), which may be memory-mapped, with labels
    int64 (n,) and images uint8 (n, R, R, 3).

    Raises ``InputError`` where the three do not fit, for fewer than two images, or features not finite.
    """
    check_examples(features, labels, images)
    n, channels, height, width = features.shape
    classes, members = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), channels, height * width))
    for start in range(0, n, _BATCH):
        part = np.asarray(features[start : start + _BATCH], np.float32).reshape(-1, channels, height * width)
        one_hot = np.zeros((len(classes), len(part)), np.float32)
        one_hot[members[start : start + _BATCH], np.arange(len(part))] = 1
        sums += (one_hot @ part.reshape(len(part), -1)).reshape(sums.shape)
    if not np.isfinite(sums).all():
        raise InputError("the features are not finite", hint="check the encoder's input scaling")
    counts = np.bincount(members).astype(np.float64)
    mean = sums.sum(0) / n
    offsets = sums / counts[:, None, None] - mean
    values = n * height * width
    between = np.einsum("k,kcp,kdp->cd", counts, offsets, offsets, optimize=True) / values
    mean_image = images.mean(0, dtype=np.float64).astype(np.float32)
    block = block_size((height, width), images.shape[1])
    total = np.zeros((channels, channels))
    cross = np.zeros((channels, 3 * block**2 * _NEIGHBOURS**2))
    for start in range(0, n, _BATCH):
        part = np.asarray(features[start : start + _BATCH], np.float32).reshape(-1, channels, height * width)
        rows = np.ascontiguousarray((part - mean.astype(np.float32)).transpose(1, 0, 2)).reshape(channels, -1)
        total += rows @ rows.T
        deviations = (images[start : start + _BATCH] - mean_image) / np.float32(255)
        blocks = image_blocks(torch.from_numpy(deviations), (height, width), block)
        around = functional.unfold(blocks, _NEIGHBOURS, padding=_NEIGHBOURS // 2)
        cross += rows @ around.transpose(1, 2).flatten(0, 1).numpy()
    cross /= values
    return ChannelScatter(between, total / values - between, cross @ cross.T)


def eigen_projection(
    between: NDArray[np.float64],
    within: NDArray[np.float64],
    predictability: NDArray[np.float64],
    *,
    outputs: int,
    weight: float = WEIGHT,
) -> NDArray[np.float32]:
    """The mixing matrix float32 (``outputs``, C): its rows span the leading eigenvectors w of

        between w / b = value (total / C + weight predictability / p) w,

    b and p the traces of both in coordinates in which the features' total covariance is the identity. Rows
    are such that the outputs are uncorrelated with variance 1, so no scale hides anything. Arguments as in
    ``ChannelScatter``; ``weight`` 0 is linear discriminant analysis.

    Raises ``InputError`` for ``outputs`` not in 1..C, a negative ``weight``, or features that never vary.
    """
    from scipy.linalg import eigh

    channels = len(between)
    check_outputs(outputs, channels)
    if not 0 <= weight < np.inf:
        raise InputError(f"weight {weight:g} of the image's predictability", hint="allowed: 0 or more")
    whitening = whitening_of(between + within)
    apart, seen = (whitening @ matrix @ whitening for matrix in (between, predictability))
    apart, seen = (matrix / (np.trace(matrix) or 1.0) for matrix in (apart, seen))
    _, vectors = eigh(apart, np.eye(channels) / channels + weight * seen)
    rows, _ = np.linalg.qr(vectors[:, ::-1][:, :outputs])
    # the sign of an eigenvector is any
    rows = rows * np.where(rows.sum(0) < 0, -1, 1)
    return np.ascontiguousarray((whitening @ rows).T, np.float32)


def whitening_of(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric matrix (C, C) that makes channels of this covariance uncorrelated with variance 1.

    Raises ``InputError`` when none of them varies.
    """
    scale = float(np.trace(covariance)) / len(covariance)
    if not scale > 0:
        raise InputError("the features never vary", hint="choose another cut")
    values, vectors = np.linalg.eigh(covariance)
    whitening: NDArray[np.float64] = (vectors / np.sqrt(values.clip(0) + _RIDGE * scale)) @ vectors.T
    return whitening


def block_size(places: tuple[int, int], image_size: int) -> int:
    """How many pixels along an image's side belong to one place of a feature map (h, w); 1 at least."""
    return max(1, -(-image_size // max(places)))


def image_blocks(deviations: torch.Tensor, places: tuple[int, int], block: int) -> torch.Tensor:
    """Images float32 (n, R, R, 3) as (n, 3 ``block``^2, h, w), resized where they do not divide."""
    planes = deviations.permute(0, 3, 1, 2)
    size = (places[0] * block, places[1] * block)
    if planes.shape[2:] != size:
        planes = functional.interpolate(planes, size, mode="bilinear", antialias=True)
    return functional.pixel_unshuffle(planes, block)


def check_examples(
    features: NDArray[np.floating], labels: NDArray[np.int64], images: NDArray[np.uint8]
) -> None:
    """Raise ``InputError`` unless features (n, C, h, w), labels (n,) and images (n, R, R, 3) fit."""
    if features.ndim != 4 or images.ndim != 4 or images.dtype != np.uint8:
        raise InputError(
            f"features of shape {features.shape}, images {images.dtype} {images.shape}",
            hint="needed: features (n, C, h, w) and images uint8 (n, R, R, 3)",
        )
    if not len(features) == len(labels) == len(images) or len(labels) < 2:
        raise InputError(
            f"{len(features)} features, {len(labels)} labels, {len(images)} images",
            hint="needed: as many, 2 or more",
        )


def check_outputs(outputs: int, channels: int) -> None:
    """Raise ``InputError`` unless ``channels`` can be mixed to ``outputs``."""
    if not 1 <= outputs <= channels:
        raise InputError(
            f"a projection of {channels} channels to {outputs}", hint=f"allowed: 1 to {channels}"
        )
