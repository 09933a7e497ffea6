"""What can be guessed without the features: the floors that a reconstruction is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .pairs import Pairs

_BATCH = 256


def mean_image(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The blind guess: the mean of uint8 images (n, R, R, 3), float32 (R, R, 3) in [0, 1]."""
    total = np.zeros(images.shape[1:], np.float64)
    for start in range(0, len(images), _BATCH):
        total += images[start : start + _BATCH].sum(axis=0, dtype=np.float64)
    return (total / (255 * len(images))).astype(np.float32)


def class_mean_images(train: Pairs, labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """The label-only guess for labels (n,): the class's mean training image, float32 (n, R, R, 3) in [0, 1].

    A label that no training image has gets the mean of all of them.
    """
    overall = mean_image(train.images)
    means = {}
    for label in np.unique(labels):
        members = train.images[train.labels == label]
        means[int(label)] = mean_image(members) if len(members) else overall
    return np.stack([means[int(label)] for label in labels])
