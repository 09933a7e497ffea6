"""A folder of image files, one sub-folder a class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PrivynetError
from ..progress import SILENT, Progress
from .arrays import pixel_hash
from .attribute_table import FILE_NAME, AttributeTable
from .dataset import DataSet
from .decoding import FORMATS, UnreadableImage, decode
from .resizing import square

_THREADS = min(8, os.cpu_count() or 1)
_BATCH = 256
_NAMED = 5


@dataclass(frozen=True, eq=False)
class FileImages:
    """Images decoded from their files whenever they are read."""

    paths: Sequence[Path]

    def read(self, indices: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        batch = np.empty((len(indices), size, size, 3), np.uint8)

        def fill(row: int) -> None:
            path = self.paths[int(indices[row])]
            try:
                batch[row] = np.asarray(square(decode(path, at_least=2 * size), size))
            except UnreadableImage as error:
                raise PrivynetError(
                    f"{path} could be read when the data set was opened and no longer can: {error}",
                    hint="start again",
                ) from error

        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(fill, range(len(indices))):
                pass
        return batch


@dataclass(frozen=True)
class _File:
    path: Path
    label: int
    test: bool


def open_folder(name: str, path: Path, *, reference_size: int, progress: Progress = SILENT) -> DataSet:
    """The data set in the folder ``path``: one sub-folder a class, or that under ``train/`` and ``test/``.

    Every file is decoded once, to hash its pixels and to find the unreadable ones, which are left out with
    one warning. Hidden files are ignored. ``attributes.csv`` in the folder gives private attributes (see
    ``AttributeTable``). Raises ``InputError`` when the folder is missing, has fewer than two classes, holds
    no image, or has a class without a readable one, and for attributes that do not fit.
    """
    if not path.is_dir():
        raise InputError(
            f"folder {path} does not exist or is no folder", hint="give folder:PATH, one sub-folder a class"
        )
    halves = _halves(path)
    classes = tuple(sorted({child.name for half in halves for child in _subfolders(half)}))
    if len(classes) < 2:
        found = f"one sub-folder ({classes[0]})" if classes else "no sub-folder"
        raise InputError(f"folder {path} has {found}", hint="one sub-folder a class is needed, at least two")
    label = {name: position for position, name in enumerate(classes)}
    files = [
        _File(file, label[folder.name], half.name == "test" and len(halves) == 2)
        for half in halves
        for folder in _subfolders(half)
        for file in _files(folder)
    ]
    table = AttributeTable.read(path / FILE_NAME, [_relative(file, path) for file in files])
    readable, hashes, unreadable = _decode_all(files, path, progress)
    if unreadable:
        progress.warn(_skipped(unreadable, len(files), path))
    if not readable:
        raise InputError(f"folder {path} holds no readable image", hint=f"formats: {', '.join(FORMATS)}")
    return DataSet.build(
        name,
        FileImages([file.path for file in readable]),
        hashes=hashes,
        labels=np.array([file.label for file in readable], np.int64),
        classes=classes,
        official_test=np.array([file.test for file in readable]) if len(halves) == 2 else None,
        reference_size=reference_size,
        attributes=table.attributes([_relative(file, path) for file in readable]) if table else [],
    )


def _relative(file: _File, path: Path) -> str:
    return file.path.relative_to(path).as_posix()


def _skipped(unreadable: Sequence[Path], total: int, path: Path) -> str:
    named = ", ".join(str(file.relative_to(path)) for file in unreadable[:_NAMED])
    more = f" and {len(unreadable) - _NAMED} more" if len(unreadable) > _NAMED else ""
    return f"{path}: skipped {len(unreadable)} of {total} files that are no readable image: {named}{more}"


def _decode_all(
    files: Sequence[_File], path: Path, progress: Progress
) -> tuple[list[_File], NDArray[np.uint8], list[Path]]:
    """The readable files with their pixels' hashes (n, 32), and the others."""
    readable, hashes, unreadable = [], [], []
    with ThreadPoolExecutor(_THREADS) as pool, progress.task(f"reading {path}", len(files)) as task:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            for file, digest in zip(batch, pool.map(_hash, [file.path for file in batch]), strict=True):
                if digest is None:
                    unreadable.append(file.path)
                else:
                    readable.append(file)
                    hashes.append(digest)
            task.advance(len(batch))
    return readable, np.stack(hashes) if hashes else np.empty((0, 32), np.uint8), unreadable


def _hash(path: Path) -> NDArray[np.uint8] | None:
    try:
        return pixel_hash(np.asarray(decode(path)))
    except UnreadableImage:
        return None


def _halves(path: Path) -> list[Path]:
    """The folders that hold the class folders: ``train`` and ``test``, or the folder itself."""
    halves = [path / half for half in ("train", "test")]
    if not all(half.is_dir() and _subfolders(half) for half in halves):
        return [path]
    others = [folder.name for folder in _subfolders(path) if folder not in halves]
    if others:
        raise InputError(
            f"folder {path} has {', '.join(others)} beside train and test",
            hint="only train/ and test/ are read as halves: move the rest elsewhere",
        )
    return halves


def _subfolders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    """The files of a class folder that are not hidden, in a stable order."""
    nested = _subfolders(folder)
    if nested:
        raise InputError(
            f"folder {nested[0]} lies inside the class {folder.name!r}",
            hint="expected one sub-folder a class that holds only files, optionally under train/ and test/",
        )
    return sorted(child for child in folder.iterdir() if not child.name.startswith("."))
