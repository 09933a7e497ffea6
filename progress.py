"""How long work tells that it advances, without knowing who watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar."""

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        """``steps`` more are done; ``note`` is a short text shown beside the bar."""


class Progress(Protocol):
    """What shows bars: the command line's is in ``toolkit``; the default shows nothing."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """A bar of ``total`` steps (``None``: unknown) for as long as the context lasts."""
        ...

    def warn(self, message: str) -> None:
        """Tell the user something that does not stop the work."""
        ...


class _SilentTask:
    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        pass


class _Silent:
    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        yield _SilentTask()

    def warn(self, message: str) -> None:
        import warnings

        warnings.warn(message, stacklevel=3)


SILENT: Progress = _Silent()
"""Shows no bars; warnings go through Python's ``warnings``."""
