"""This machine as a target: nothing is copied, and the agent runs in the Python that runs this."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from ...errors import InputError
from .process import LocalProcess
from .target import Running, Target


class LocalTarget(Target):
    """``local``."""

    name = "local"

    def __init__(self, *, python: str | None = None) -> None:
        # Isolated mode: nothing beside the agent's file can shadow a module.
        self._python = (_program(python) if python else sys.executable, "-I")

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="privynet.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def python(self) -> Sequence[str]:
        return self._python

    @property
    def folder(self) -> str:
        return self._folder.name

    def put(self, file: Path, *, name: str | None = None, executable: bool = False) -> str:
        """The file itself: it is here, and what a model keeps beside it stays beside it."""
        return str(file.absolute())

    @contextmanager
    def run(self, command: Sequence[str]) -> Iterator[Running]:
        try:
            process = LocalProcess(command, folder=Path(self.folder))
        except OSError as error:
            raise InputError(
                f"{command[0]} cannot be run: {error.strerror}", hint="give a program of this machine"
            ) from error
        try:
            yield process
        finally:
            process.end()

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()


def _program(name: str) -> str:
    """A path from where the user is, since programs run elsewhere; a name, which PATH leads to, as it is.

    Links stay: a virtual environment's Python is one.
    """
    if os.sep not in name:
        return name
    try:
        return str(Path(name).expanduser().absolute())
    except RuntimeError:  # the home of nobody we know: running it says that it is not there
        return name
