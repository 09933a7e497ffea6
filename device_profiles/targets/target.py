"""What every place to measure on can do, whichever way it is reached."""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ...errors import PrivynetError


class ConnectionCut(PrivynetError):
    """The way to the target was lost while something ran there."""


@dataclass(frozen=True)
class Ending:
    """How a program ended: its exit code (minus the signal's number), or ``None`` while it still runs; and
    the last line of its stderr."""

    code: int | None
    said: str


class Target(ABC):
    """A place to run the measuring agent on; a context manager, after which nothing of it is left there.

    Whatever fails on the way to the target or on it is a :class:`PrivynetError`.
    """

    name: str
    """As the user wrote it."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    @abstractmethod
    def python(self) -> Sequence[str]:
        """The command of a Python of at least 3.9 with numpy and onnxruntime; raises where there is none."""

    @abstractmethod
    def put(self, file: Path, *, name: str | None = None, executable: bool = False) -> str:
        """Where the target has the file's content, checked by its SHA-256; ``name`` if it must have that.

        What lies there already is not copied again.
        """

    @abstractmethod
    def run(self, command: Sequence[str]) -> AbstractContextManager[Running]:
        """Start a program; it is ended with the context."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """A small file's content."""

    @property
    @abstractmethod
    def folder(self) -> str:
        """A folder of our own, where programs run and may leave files."""


class Running(ABC):
    """A program that runs on a target."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue()

    def lines(self, silence_seconds: float) -> Iterator[bytes]:
        """The lines of its stdout as they come, until it closes it.

        Raises ``TimeoutError`` when nothing comes for so long.
        """
        begun: list[bytes] = []
        while True:
            try:
                chunk = self._chunks.get(timeout=silence_seconds)
            except queue.Empty:
                raise TimeoutError from None
            if chunk is None:
                break
            first, *others = chunk.split(b"\n")
            begun.append(first)
            for other in others:
                yield b"".join(begun)
                begun = [other]
        if any(begun):
            yield b"".join(begun)

    @abstractmethod
    def ending(self, seconds: float) -> Ending:
        """How it ended, if it does within so long after it closed its stdout.

        Raises :class:`ConnectionCut` when nobody knows, because the connection was lost.
        """
