"""What checks feed: the same each time, and of many kinds."""

from __future__ import annotations

import numpy as np

from privynet.exporters.probes import varied_images


def test_varied_images_are_repeatable_and_of_every_grain_and_strength() -> None:
    images = varied_images(32, seed=3)
    assert (images.shape, images.dtype) == ((8, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(images, varied_images(32, seed=3))
    assert not np.array_equal(images, varied_images(32, seed=4))
    for index, image in enumerate(images):
        grain = 2 ** (index // 2)
        rows = np.flatnonzero((np.diff(image.astype(int), axis=0) != 0).any(axis=(1, 2))) + 1
        assert rows.min() == grain and not (rows % grain).any()
    spans = np.ptp(images.reshape(8, -1).astype(int), axis=1)
    assert (spans[::2] > 200).all() and (spans[1::2] < spans[::2]).all()


def test_varied_images_of_a_size_that_no_grain_divides() -> None:
    assert varied_images(33, seed=0).shape == (8, 33, 33, 3)
