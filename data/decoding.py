"""From an image file to RGB pixels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names of the formats that are read; no format that needs an outside program is among them."""


class UnreadableImage(Exception):
    """A file that is no image of the known formats, or a damaged one."""


def decode(path: Path, *, at_least: int = 0) -> Image:
    """The image in a file as RGB: upright by its EXIF orientation, transparent parts white, first frame.

    16-bit grey keeps its upper 8 bits. With ``at_least``, a JPEG whose sides are longer than that many pixels
    may come out smaller, by the decoder's own scaling, but not below it: photos decode several times faster.
    Raises ``UnreadableImage``.
    """
    from PIL import Image as pillow
    from PIL import ImageOps

    try:
        with pillow.open(path, formats=FORMATS) as image:
            if at_least:
                image.draft(None, (at_least, at_least))
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    # What Pillow's decoders raise for damaged files; a bomb is a file that claims an absurd number of pixels.
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        struct.error,
        zlib.error,
        pillow.DecompressionBombError,
    ) as error:
        raise UnreadableImage(" ".join(str(error).split()) or type(error).__name__) from error


def _rgb(image: Image) -> Image:
    from PIL import Image as pillow

    if image.mode == "I" or image.mode.startswith("I;16"):
        return pillow.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        white = pillow.new("RGBA", image.size, "white")
        return pillow.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")
