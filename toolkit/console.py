"""The screen: progress on stderr, results on stdout as tables or as one JSON object."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import typer

from ..errors import PrivynetError
from ..progress import Progress, Task
from .interrupts import Interrupts

if TYPE_CHECKING:
    import rich.console
    import rich.progress
    import rich.table

_PIPE_WIDTH = 160
"""Columns of a table that is not shown on a terminal."""


class Interrupted(PrivynetError):
    """Ctrl-C."""

    exit_code: ClassVar[int] = 130


class Screen:
    """Where one command shows its progress and its result."""

    def __init__(self, *, as_json: bool, seed: int = 0) -> None:
        self.as_json = as_json
        self.seed = seed

    @contextmanager
    def working(self, *, resume: str | None = None) -> Iterator[Progress]:
        """Bars on stderr while the context lasts; what a library prints meanwhile goes there too.

        ``resume`` says how to go on after Ctrl-C, where that is possible.
        """
        interrupts = Interrupts()
        bars = Bars(_console(sys.stderr), interrupts)
        try:
            with interrupts.listening(), redirect_stdout(sys.stderr):
                yield bars
        except KeyboardInterrupt:
            raise Interrupted("interrupted", hint=resume) from None
        finally:
            bars.close()

    def note(self, tables: Iterable[rich.table.Table | str]) -> None:
        """Show tables or lines on stderr, before the result."""
        _print(sys.stderr, tables)

    def show(
        self,
        result: Mapping[str, Any],
        tables: Callable[[Mapping[str, Any]], Iterable[rich.table.Table | str]],
    ) -> None:
        """Print the result: as one JSON object, or as the tables and lines that ``tables`` makes of it.

        Raises ``PrivynetError`` when stdout cannot take it.
        """
        try:
            if self.as_json:
                print(json.dumps(self._document(result), indent=2, allow_nan=False))
            else:
                _print(sys.stdout, tables(result))
            sys.stdout.flush()
        except OSError as error:
            # or the interpreter tries once more when it exits, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno == errno.EPIPE:
                raise typer.Exit(1) from None
            raise PrivynetError(f"cannot print the result: {error.strerror}") from error

    def _document(self, result: Mapping[str, Any]) -> dict[str, Any]:
        from ..artifacts import SCHEMA_VERSION

        header = {
            "schema_version": SCHEMA_VERSION,
            "tool_version": version("privynet"),
            "seed": self.seed,
            "inputs": {},
        }
        return {**header, **{key: value for key, value in result.items() if key != "kind"}}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> rich.table.Table:
    """A table; columns whose name starts with ``>`` are set flush right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        right = name.startswith(">")
        made.add_column(Text(name.removeprefix(">")), justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(str(value)) for value in row))
    return made


class Bars:
    """``privynet.progress.Progress``: bars on a terminal, elsewhere lines."""

    def __init__(self, console: rich.console.Console, interrupts: Interrupts) -> None:
        self._console = console
        self._interrupts = interrupts
        self._live: rich.progress.Progress | None = None
        self._depth = 0

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """A bar for as long as the context lasts."""
        self._interrupts.check()
        self._depth += 1
        try:
            if self._console.is_terminal:
                live = self._start()
                bar = _Bar(live, live.add_task(description, total=total, note=""))
                try:
                    yield bar
                finally:
                    live.remove_task(bar.number)
            else:
                lines = _Lines(self._print, description, total, outermost=self._depth == 1)
                yield lines
                lines.end()
        finally:
            self._depth -= 1

    def warn(self, message: str) -> None:
        """A line that stays."""
        self._print(f"warning: {message}")

    def close(self) -> None:
        """Take the bars off the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _start(self) -> rich.progress.Progress:
        if self._live is None:
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}", markup=False, style="dim"),
                console=self._console,
                transient=True,
            )
            self._live.start()
        return self._live


class _Bar:
    def __init__(self, live: rich.progress.Progress, number: rich.progress.TaskID) -> None:
        self._live = live
        self.number = number

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        self._live.advance(self.number, steps)
        if note is not None:
            self._live.update(self.number, note=note)


class _Lines:
    """A task in a log: nothing that moves."""

    _EVERY_SECONDS = 30.0

    def __init__(
        self, show: Callable[[str], None], description: str, total: float | None, *, outermost: bool
    ) -> None:
        self._show = show if outermost else lambda line: None
        self._description = description
        self._total = total
        self._done = 0.0
        self._note = ""
        self._started = self._shown = time.monotonic()

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        self._done += steps
        self._note = note if note is not None else self._note
        if time.monotonic() - self._shown > self._EVERY_SECONDS:
            self._shown = time.monotonic()
            share = f" {self._done / self._total:.0%}" if self._total else ""
            self._show(f"{self._description}{share} {self._note}".rstrip())

    def end(self) -> None:
        seconds = time.monotonic() - self._started
        note = f" ({self._note})" if self._note else ""
        self._show(f"{self._description}: {seconds:.1f} s{note}")


def _console(stream: Any) -> rich.console.Console:
    from rich.console import Console

    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width)


def _print(stream: Any, tables: Iterable[rich.table.Table | str]) -> None:
    console = _console(stream)
    for item in tables:
        if isinstance(item, str):
            console.print(item, markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(item)
