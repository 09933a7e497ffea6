"""From a source string to a data set."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, unknown
from ..progress import SILENT, Progress
from .dataset import DataSet
from .digits import open_digits
from .folder import open_folder
from .npz import open_npz
from .published import SETS, open_published

_MAX_IMAGE_SIZE = 1024


def open_data(source: str, *, image_size: int = 64, progress: Progress = SILENT) -> DataSet:
    """The data set that ``source`` names.

    ``source`` is ``digits``, ``cifar10``, ``cifar100``, ``fashion-mnist``, ``folder:PATH`` (one sub-folder a
    class, optionally under ``train/`` and ``test/``) or ``npz:PATH`` (``images`` uint8 (N, H, W, 1 or 3),
    ``labels`` (N,), no pickles). Either may bring private attributes: ``PATH/attributes.csv`` (header
    ``file,NAME,...``, one row an image), arrays ``attribute_NAME`` (N,). ``image_size`` is the reference
    size, in pixels, of a folder or npz source; the others' is 32.

    Raises ``InputError`` for an unknown source, missing or unusable data, fewer than two classes or a class
    without a readable image.
    """
    if not 1 <= image_size <= _MAX_IMAGE_SIZE:
        raise InputError(
            f"image size {image_size} is out of range", hint=f"allowed: 1 to {_MAX_IMAGE_SIZE} pixels"
        )
    kind, colon, path = source.partition(":")
    if colon and kind in ("folder", "npz"):
        if not path:
            raise InputError(f"data source {source!r} names no path", hint=f"write {kind}:PATH")
        reader = open_folder if kind == "folder" else open_npz
        return reader(source, Path(path).expanduser(), reference_size=image_size, progress=progress)
    if source == "digits":
        return open_digits()
    if source in SETS:
        return open_published(source, progress=progress)
    raise unknown("data source", source, ["digits", *SETS, "folder:PATH", "npz:PATH"])
