"""``attributes.csv``: the private attributes of a folder of images, one row an image."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from .attributes import Attribute, check_name

FILE_NAME = "attributes.csv"
_KEY = "file"
_HINT = f"needed: UTF-8, a header {_KEY},NAME,... and a row for each image, its path with forward slashes"


class AttributeTable:
    """The rows of one such file, checked against the folder: each image has one, and no value is missing."""

    def __init__(self, path: Path, names: tuple[str, ...], rows: dict[str, tuple[str, ...]]) -> None:
        self._path, self._names, self._rows = path, names, rows

    @classmethod
    def read(cls, path: Path, files: Sequence[str]) -> AttributeTable | None:
        """The table in ``path``, ``None`` if there is none; ``files``: the folder's, by relative path.

        Raises ``InputError``, which names the line, for a file that is not UTF-8 or no CSV, a header without
        attributes or with a name twice, rows of another length, empty values, and files that are unknown,
        missing or named twice.
        """
        if not path.exists():
            return None
        lines = _lines(path)
        header = next(lines, (1, []))[1]
        names = tuple(name.strip() for name in header[1:])
        if not header or header[0].strip() != _KEY or not names:
            raise InputError(f"{path}, line 1: the header is {','.join(header)!r}", hint=_HINT)
        for position, name in enumerate(names):
            check_name(name, f"{path}, line 1")
            if name in names[:position]:
                raise InputError(f"{path}, line 1: attribute {name!r} stands there twice", hint=_HINT)
        known, rows, places = set(files), dict[str, tuple[str, ...]](), dict[str, int]()
        for line, row in lines:
            values = tuple(value.strip() for value in row[1:])
            if len(values) != len(names):
                raise InputError(f"{path}, line {line}: {len(row)} values, not {len(header)}", hint=_HINT)
            if row[0] not in known:
                raise InputError(f"{path}, line {line}: there is no file {row[0]!r}", hint=_HINT)
            if row[0] in rows:
                raise InputError(
                    f"{path}, line {line}: {row[0]!r} already has line {places[row[0]]}", hint=_HINT
                )
            if not all(values):
                name = names[values.index("")]
                raise InputError(f"{path}, line {line}: the value of {name!r} is empty", hint=_HINT)
            rows[row[0]], places[row[0]] = values, line
        missing = next((file for file in files if file not in rows), None)
        if missing is not None:
            raise InputError(f"{path} has no line for {missing!r}", hint=_HINT)
        return cls(path, names, rows)

    def attributes(self, files: Sequence[str]) -> list[Attribute]:
        """The attributes of these files (N), in their order; ``InputError`` as ``Attribute.build``."""
        return [
            Attribute.build(
                name, np.array([self._rows[file][column] for file in files]), source=str(self._path)
            )
            for column, name in enumerate(self._names)
        ]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, with the number of each one's last line."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8", hint=_HINT) from error
    reader = csv.reader(io.StringIO(decoded, newline=""), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}", hint=_HINT) from error
        if row is None:
            return
        if row:
            yield reader.line_num, row
