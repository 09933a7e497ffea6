"""What the pooled features of a cut tell linearly about the class: second moments, summed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

MAX_REGRESSORS = 2048
"""Most pooled values of all channels together: the map is pooled to a coarser grid where there are more."""
POOL_SIDES = (4, 3, 2, 1)
FLOPS = 1.5e11
"""Floating-point operations that summing the moments may take; fewer images are used beyond."""

_VAL_SHARE = 0.1
_BATCH_VALUES = 2**22


@dataclass(frozen=True)
class ClassMoments:
    """Mean products of pooled features and classes over the training images, and the images to judge by.

    A regressor is one channel in one of ``taps`` cells of the pooled map; they are counted channel by
    channel: ``gram`` is (C * taps, C * taps), ``cross`` (C * taps, classes), both float32, of deviations
    from the mean. ``val`` and ``select`` are such deviations of held-out images, float32
    (C * taps, n).
    """

    channels: int
    taps: int
    gram: NDArray[np.float32]
    cross: NDArray[np.float32]
    priors: NDArray[np.float32]
    """(classes,): the shares of the training images."""
    val: NDArray[np.float32]
    val_labels: NDArray[np.int64]
    select: NDArray[np.float32]
    select_labels: NDArray[np.int64]
    pooled_values: float
    """How many values of the features were averaged into one, which averages their noise as well."""

    @classmethod
    def of_features(
        cls,
        features: NDArray[Any],
        labels: NDArray[np.int64],
        select_features: NDArray[Any],
        select_labels: NDArray[np.int64],
        *,
        classes: int,
        seed: int = 0,
    ) -> ClassMoments:
        """Sum the moments of features (n, C, h, w), any float type, may be memory-mapped, with labels (n,).

        A tenth of the training images, drawn by ``seed``, is left out of the sums: the ridge is chosen by it.
        """
        _, channels, height, width = features.shape
        side = pool_side(channels, max(height, width))
        pooled = _pool(features, side)
        order = np.random.default_rng(seed).permutation(len(labels))
        held_out = np.sort(order[: max(1, round(_VAL_SHARE * len(labels)))])
        # In an order of its own, so that fewer of them are a fair sample.
        rows = np.sort(order[len(held_out) :][: max(1, int(FLOPS / (2 * pooled.shape[1] ** 2)))])
        train, train_labels = pooled[torch.from_numpy(rows)], labels[rows]
        mean = train.mean(0, dtype=torch.float64).float()
        train -= mean
        targets = functional.one_hot(torch.from_numpy(train_labels), classes).float()
        priors = targets.mean(0)
        gram, cross = train.T @ train / len(train), train.T @ (targets - priors) / len(train)
        return cls(
            channels=channels,
            taps=side**2,
            gram=gram.numpy(),
            cross=cross.numpy(),
            priors=priors.numpy(),
            val=_columns(pooled[torch.from_numpy(held_out)] - mean),
            val_labels=labels[held_out],
            select=_columns(_pool(select_features, side) - mean),
            select_labels=select_labels,
            pooled_values=height * width / side**2,
        )


def pool_side(channels: int, side: int) -> int:
    """The side of the grid that a map of ``side`` is pooled to."""
    fitting = [size for size in POOL_SIDES if size <= side and channels * size**2 <= MAX_REGRESSORS]
    return fitting[0] if fitting else 1


def _pool(features: NDArray[Any], side: int) -> Tensor:
    """float32 (n, C * side * side): means over the cells of the map."""
    parts = [functional.adaptive_avg_pool2d(part, side).flatten(1) for part in _batches(features)]
    return torch.cat(parts)


def _columns(rows: Tensor) -> NDArray[np.float32]:
    """A selection's regressors are then next to each other in memory."""
    columns: NDArray[np.float32] = rows.T.contiguous().numpy()
    return columns


def _batches(features: NDArray[Any]) -> Iterator[Tensor]:
    step = max(1, _BATCH_VALUES // max(1, int(np.prod(features.shape[1:]))))
    for start in range(0, len(features), step):
        # A copy: torch takes no array that cannot be written, and a slice of a memory map cannot.
        yield torch.from_numpy(np.array(features[start : start + step])).float()
