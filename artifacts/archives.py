"""The one form of zip that is written and read here: members stored, in order of their names, nothing else.

Every byte follows from the members' names and contents. So a changed one shows, nothing can be hidden before,
between or after them, and there is nothing to inflate: a member is never larger than the zip it lies in. What
another tool made of the same files is refused.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import PrivynetError

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_NEEDED = 20  # version 2.0
_MADE_BY = 3 << 8 | _NEEDED  # on Unix
_DATE = 1 << 5 | 1  # 1980-01-01, the first that there is
_MODE = stat.S_IFREG | 0o644
_ENCRYPTED = 1
_LONGEST_NAME = 100
_STEP = 2**20


class BadArchive(Exception):
    """A zip that is not in this form. ``member`` has the fault, ``None`` where it is the whole's."""

    def __init__(self, reason: str, member: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.member = reason, member


@dataclass(frozen=True)
class _Entry:
    name: bytes
    crc: int
    size: int
    offset: int
    """Of its local header."""

    @property
    def end(self) -> int:
        return self.offset + _LOCAL.size + len(self.name) + self.size

    def local(self) -> bytes:
        sizes = self.crc, self.size, self.size, len(self.name), 0
        return _LOCAL.pack(_LOCAL_MARK, _NEEDED, 0, 0, 0, _DATE, *sizes) + self.name

    def central(self) -> bytes:
        sizes = self.crc, self.size, self.size, len(self.name), 0, 0
        head = _CENTRAL_MARK, _MADE_BY, _NEEDED, 0, 0, 0, _DATE
        return _CENTRAL.pack(*head, *sizes, 0, 0, _MODE << 16, self.offset) + self.name


def _ending(entries: Iterable[_Entry], start: int) -> bytes:
    """All that follows the members, which end at ``start``."""
    directory = [entry.central() for entry in entries]
    size = sum(map(len, directory))
    end = _END.pack(_END_MARK, 0, 0, len(directory), len(directory), size, start, 0)
    return b"".join([*directory, end])


def might_hold(file: Path, member: str) -> bool:
    """Whether a file begins as a zip does, and its directory speaks of ``member``, or cannot be found."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        if stream.read(len(_LOCAL_MARK)) != _LOCAL_MARK:
            return False
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _END.size))
        end = stream.read()
        if len(end) < _END.size or not end.startswith(_END_MARK):
            return True
        *_, length, start, _ = _END.unpack(end)
        stream.seek(start)
        return member.encode() in stream.read(min(length, _STEP))


def pack(folder: Path, file: Path) -> None:
    """Write the files of ``folder`` into the zip ``file``. Raises ``PrivynetError`` for more than 4 GiB."""
    members = sorted(folder.iterdir(), key=lambda member: member.name)
    if sum(member.stat().st_size + 2**10 for member in members) >= 2**32:
        raise PrivynetError(f"{file} would be larger than 4 GiB", hint="write a folder instead")
    entries: list[_Entry] = []
    with file.open("wb") as out:
        for member in members:
            entry = _Entry(member.name.encode(), _checksum(member), member.stat().st_size, out.tell())
            out.write(entry.local())
            with member.open("rb") as stream:
                for piece in iter(lambda: stream.read(_STEP), b""):
                    out.write(piece)
            entries.append(entry)
        out.write(_ending(entries, out.tell()))


def members_of(file: Path, limits: Mapping[str, int]) -> list[str]:
    """The names of a zip's members; arguments and exceptions as for ``unpack``."""
    with file.open("rb") as stream:
        return [entry.name.decode() for entry in _entries(stream, limits)]


def unpack(file: Path, folder: Path, limits: Mapping[str, int]) -> None:
    """Write the members of the zip ``file`` into ``folder``.

    ``limits``: every name that a member may have, with the most bytes that it may have. Raises
    ``BadArchive`` when the zip is not as ``pack`` writes one of such members.
    """
    with file.open("rb") as stream:
        for entry in _entries(stream, limits):
            name = entry.name.decode()
            stream.seek(entry.offset)
            header = entry.local()
            if stream.read(len(header)) != header:
                raise BadArchive("is told otherwise at its place than in the directory", name)
            crc = 0
            with (folder / name).open("xb") as out:
                for size in _pieces(entry.size):
                    piece = stream.read(size)
                    crc = zlib.crc32(piece, crc)
                    out.write(piece)
            if crc != entry.crc:
                raise BadArchive("has other content than its checksum says", name)


def _entries(stream: BinaryIO, limits: Mapping[str, int]) -> list[_Entry]:
    """The entries of a zip, which then are all there is in it; their local headers were not looked at."""
    size = stream.seek(0, os.SEEK_END)
    if size < _END.size:
        raise BadArchive("is cut off")
    stream.seek(size - _END.size)
    mark, _, _, _, count, length, start, _ = _END.unpack(stream.read(_END.size))
    if mark != _END_MARK:
        raise BadArchive("is cut off, or something follows its end")
    if count > len(limits):
        raise BadArchive(f"holds {count} members, an artifact has at most {len(limits)}")
    if start + length + _END.size != size or length > count * (_CENTRAL.size + _LONGEST_NAME):
        raise BadArchive("holds something before, beside or after its members")
    stream.seek(start)
    ending = stream.read()
    entries = list(_directory(ending, count, limits))
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise BadArchive("is there more than once", name.decode())
    if _ending(entries, entries[-1].end if entries else 0) != ending or names != sorted(names):
        raise BadArchive("is not as privynet writes it; unpack it and give the folder")
    return entries


def _directory(data: bytes, count: int, limits: Mapping[str, int]) -> Iterator[_Entry]:
    """The directory's entries, one behind the other as they must lie in the file."""
    at = offset = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(data):
            raise BadArchive("has a directory that is cut off")
        told = _CENTRAL.unpack_from(data, at)
        at += _CENTRAL.size
        flags, method, crc, size, length, mode = told[3], told[4], told[7], told[9], told[10], told[15] >> 16
        name = data[at : at + length]
        at += length + told[11] + told[12]
        shown = name.decode(errors="backslashreplace")
        if shown not in limits:
            raise BadArchive("does not belong to it", shown)
        if flags & _ENCRYPTED:
            raise BadArchive("is encrypted", shown)
        if stat.S_IFMT(mode) not in (stat.S_IFREG, 0):
            raise BadArchive("is not a plain file", shown)
        if size > limits[shown]:
            raise BadArchive(f"has {size} bytes, more than the {limits[shown]} allowed", shown)
        if method:
            raise BadArchive("is compressed, privynet stores; unpack it and give the folder", shown)
        entry = _Entry(name, crc, size, offset)
        offset = entry.end
        yield entry


def _checksum(file: Path) -> int:
    crc = 0
    with file.open("rb") as stream:
        for piece in iter(lambda: stream.read(_STEP), b""):
            crc = zlib.crc32(piece, crc)
    return crc


def _pieces(size: int) -> Iterator[int]:
    for start in range(0, size, _STEP):
        yield min(_STEP, size - start)
