"""The handwritten digits that ship with scikit-learn: 1,797 images of 8x8."""

from __future__ import annotations

import numpy as np

from .arrays import ArrayImages
from .dataset import DataSet


def open_digits() -> DataSet:
    """scikit-learn's digits, 0 to 16 scaled to 0 to 255; they are upscaled to the size that is asked for."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = ArrayImages(np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None])
    return DataSet.build(
        "digits",
        images,
        hashes=images.hashes(),
        labels=digits.target.astype(np.int64),
        classes=tuple(str(name) for name in digits.target_names),
        official_test=None,
        reference_size=32,
        class_groups={"parity": ("even", "odd") * 5},
    )
