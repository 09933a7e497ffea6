"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, PrivynetError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNUSABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
}


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, as hex. Raises ``InputError`` when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", hint="check the path") from error


@contextmanager
def replace_file(path: Path, *, private: bool = False) -> Iterator[Path]:
    """Write a file under a temporary name (same suffix) that takes the final one only on success.

    Yields the empty temporary file's path; a file that was there before is replaced. ``private`` makes it
    mode 0600. Raises ``PrivynetError`` when the disk is full and ``InputError`` when the place cannot be
    written.
    """
    temporary = sibling(path)
    with writing(path):
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
            yield temporary
            sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a failure of the file system while ``path`` is written as one line."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise PrivynetError(
                f"no space left while writing {path}", hint="free some space or write to another disk"
            ) from error
        if error.errno in _UNUSABLE:
            raise InputError(
                f"cannot write {path}: {error.strerror}", hint="choose a folder you can write"
            ) from error
        raise


def sibling(path: Path) -> Path:
    """An unused hidden name beside ``path``, with its suffix: some writers append one that is missing."""
    return path.with_name(f".partial-{secrets.token_hex(8)}{path.suffix}")


def sync(path: Path) -> None:
    """Have the disk hold a file or a folder's entries before they get their final name."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
