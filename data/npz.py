"""Images and labels from one npz file, without pickles."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import SILENT, Progress
from .arrays import ArrayImages
from .attributes import Attribute
from .dataset import DataSet

_HINT = "images must be uint8 (N, H, W, 3 or 1), labels (N,) whole numbers or names, saved with numpy.savez"
_SINGLE, _PREFIX = "attributes", "attribute_"
"""An array (N,) of this name is the attribute ``attribute``; after this prefix stands the name of another."""


def open_npz(name: str, path: Path, *, reference_size: int, progress: Progress = SILENT) -> DataSet:
    """The data set in the npz file ``path``; its classes are the distinct labels, sorted.

    Arrays ``attribute_NAME`` (N,), whole numbers or names, are private attributes; ``attributes`` is the one
    named ``attribute``.
    Raises ``InputError`` when the file is missing, no npz, pickled, or its arrays do not fit.
    """
    with progress.task(f"reading {path.name}"):
        images, names, attributes = _read(path)
        classes, labels = np.unique(names, return_inverse=True)
        source = ArrayImages(images)
        return DataSet.build(
            name,
            source,
            hashes=source.hashes(),
            labels=labels.astype(np.int64),
            classes=tuple(str(value) for value in classes),
            official_test=None,
            reference_size=reference_size,
            attributes=[_attribute(path, key, values, len(images)) for key, values in attributes.items()],
        )


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.generic], dict[str, NDArray[np.generic]]]:
    """Images, labels, and by their arrays' names the attributes, which are not checked yet."""
    if not path.is_file():
        raise InputError(f"npz file {path} does not exist", hint=_HINT)
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("no zip archive")
        with np.load(path, allow_pickle=False) as archive:
            for key in ("images", "labels"):
                if key not in archive.files:
                    raise InputError(f"{path} has no array {key!r}", hint=_HINT)
            images, labels = archive["images"], archive["labels"]
            attributes = {
                key: archive[key] for key in archive.files if key == _SINGLE or key.startswith(_PREFIX)
            }
            if not all(isinstance(array, np.ndarray) for array in (images, labels, *attributes.values())):
                raise ValueError("numpy gives a member that is no array as bytes")
    # What numpy and zipfile raise for a file that is cut short, altered, encrypted or pickled.
    except (
        ValueError,
        EOFError,
        OSError,
        KeyError,
        MemoryError,
        RuntimeError,
        SyntaxError,
        TypeError,
        OverflowError,
        struct.error,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = "holds pickled arrays" if "allow_pickle" in str(error) else "is damaged or no npz file"
        raise InputError(f"{path} {reason}", hint=_HINT) from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape[1:]:
        raise InputError(f"{path}: images are {images.dtype} {images.shape}", hint=_HINT)
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise InputError(f"{path}: labels are {labels.dtype} {labels.shape}", hint=_HINT)
    if len(labels) != len(images):
        raise InputError(f"{path}: {len(images)} images but {len(labels)} labels", hint=_HINT)
    if not len(images):
        raise InputError(f"{path} holds no images", hint=_HINT)
    return images, labels, attributes


def _attribute(path: Path, key: str, values: NDArray[np.generic], images: int) -> Attribute:
    name = "attribute" if key == _SINGLE else key.removeprefix(_PREFIX)
    hint = f"{key} must be (N,) whole numbers or names"
    if values.ndim != 1 or values.dtype.kind not in "biuU":
        raise InputError(f"{path}: {key} is {values.dtype} {values.shape}", hint=hint)
    if len(values) != images:
        raise InputError(f"{path}: {images} images but {len(values)} values in {key}", hint=hint)
    return Attribute.build(name, values, source=str(path))
