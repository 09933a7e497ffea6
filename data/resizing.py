"""From any decoded image to size x size RGB, the same way for every source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image


def square(image: Image, size: int) -> Image:
    """The centre square of an image at ``size`` x ``size`` pixels: bilinear, antialiased when it shrinks."""
    from PIL import Image as pillow
    from PIL import ImageOps

    if image.size == (size, size):
        return image
    # Only the centre is resized, so that a very long image does not become a very long intermediate.
    return ImageOps.fit(image, (size, size), method=pillow.Resampling.BILINEAR)


def squares(images: Iterable[NDArray[np.uint8]], count: int, size: int) -> NDArray[np.uint8]:
    """``count`` uint8 images (H, W, 1 or 3) as one uint8 array (count, size, size, 3)."""
    from PIL import Image as pillow

    batch = np.empty((count, size, size, 3), np.uint8)
    for row, image in zip(batch, images, strict=True):
        flat = image[:, :, 0] if image.shape[2] == 1 else image
        resized = np.asarray(square(pillow.fromarray(np.ascontiguousarray(flat)), size))
        row[:] = resized[:, :, None] if resized.ndim == 2 else resized
    return batch
