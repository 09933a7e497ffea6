"""Smooth random images with labels, pairs for encoders given as numpy functions, and budgets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from privynet.leakage import Pairs

Encode = Callable[[NDArray[np.float32]], NDArray[Any]]
MakePairs = Callable[..., Pairs]


def _smooth_images(n: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=n)
    coarse = rng.uniform(0, 0.7, (n, 4, 4, 3))
    coarse[np.arange(n), :, :, labels] += 0.3
    zoomed = scipy.ndimage.zoom(coarse, (1, size / 4, size / 4, 1), order=1, grid_mode=True, mode="nearest")
    return np.rint(np.clip(zoomed, 0, 1) * 255).astype(np.uint8), labels.astype(np.int64)


@pytest.fixture(autouse=True, scope="module")
def budgets_in_seconds_of_work() -> Iterator[None]:
    """What an attack achieves in its seconds must not depend on what else the machine has to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", time.process_time)
        yield


@pytest.fixture
def make_pairs() -> MakePairs:
    """``make_pairs(encode, n, size, seed)``: ``encode`` maps float32 (n, 3, R, R) in [0, 1] to features."""

    def make(encode: Encode, n: int = 64, size: int = 32, seed: int = 0) -> Pairs:
        images, labels = _smooth_images(n, size, seed)
        planes = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        return Pairs(encode(planes), images, labels)

    return make
