"""This machine as a target: nothing is copied, and the agent runs in the Python that runs this."""

from __future__ import annotations

import shutil
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
        self._python = (python or sys.executable, "-I")

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
        return str(file.resolve())

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

    def free_bytes(self) -> int | None:
        return shutil.disk_usage(self.folder).free
