"""One search at a time in a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..artifacts.files import writing
from ..errors import InputError

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for as long as the context lasts.

    The operating system lets go of the lock when the process ends, however it ends. Raises ``InputError``
    when another search holds it, or when the folder cannot be written.
    """
    import fcntl  # not on Windows, where everything but a search works

    with writing(folder / LOCK):
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another search is running in {folder}", hint="wait for it, or give another --out"
            ) from error
        yield
    finally:
        os.close(descriptor)
