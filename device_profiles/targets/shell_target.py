"""A target that is reached through a shell: ssh and adb differ in how a command gets there, no more.

Every command is one line for the shell of the login, whichever that is, and starts ``sh``; what it needs is
there on small systems too (busybox, Android's toybox): mktemp, df, cat, kill, rm, and sha256sum or shasum.
"""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ...artifacts import file_digest
from ...errors import PrivynetError
from .remote_python import find_python
from .target import ConnectionCut, Ending, Running, Target

_KILL = 'for run in "$folder"/*.pid; do kill -9 "$(cat "$run")"; done 2>/dev/null'
_CLEAN = f'{_KILL}; rm -rf "$folder"'
_MARKER = "privynet:"
_GUARD = (
    'trap "" HUP INT TERM PIPE; folder=$(mktemp -d "${TMPDIR:-$0}/privynet.XXXXXX") || exit 1; '
    f'echo; echo "{_MARKER}$folder"; echo "$(df -Pk "$folder" | tail -n 1)"; '
    f"while read -r _; do :; done; {_CLEAN}"
)
"""Makes the folder, and lives until the other end of its stdin is gone, however that went: then it ends what
runs from the folder and removes it. So a connection that is cut leaves nothing either."""
_END = f"folder=$0; {_KILL}; :"
_SWEEP = f"folder=$0; {_CLEAN}"
_RUN = (
    'cd "$0" || exit 1; TMPDIR=$0; ORT_DISABLE_TELEMETRY=1; export TMPDIR ORT_DISABLE_TELEMETRY; '
    '"$@" & echo $! >"$$.pid"; wait $!; code=$?; rm -f "$$.pid"; exit $code'
)
"""Runs a program so that the guard can end it, and its own temporary files go with the folder. ONNX Runtime's
own program would report to its maker."""
_DIGEST = '{ sha256sum <"$0" 2>/dev/null || shasum -a 256 <"$0"; }'
"""From stdin: before the digest of a file whose name holds a backslash, they would print one."""
_ANSWER_SECONDS = 30.0
"""How long a small command may take, on a slow board that is busy."""
_LEAVING_SECONDS = 0.5
"""How long a program that has said all that is wanted of it may take to end by itself."""
_SLOWEST_BYTES_PER_SECOND = 50_000


class Stream(Running):
    """A command line on the target."""

    @abstractmethod
    def end_input(self) -> None:
        """Close its stdin."""

    @abstractmethod
    def end(self) -> None:
        """Let go of it."""


class ShellTarget(Target):
    """The part that ssh and adb share."""

    base = "/tmp"
    """Where the folder is made when the target's TMPDIR says nothing."""

    without_python = "run there: sudo apt-get install python3"
    """What to do when there is no Python."""

    def __init__(self, name: str, *, python: str | None) -> None:
        self.name = name
        self._wanted_python = python
        self._found_python: Sequence[str] | None = None
        self._files = 0
        self._there: dict[tuple[str, str | None, bool, str], str] = {}

    @abstractmethod
    def _connect(self) -> None:
        """Reach the target."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of it; raises nothing."""

    @abstractmethod
    def _start(self, command: str, *, writing: bool = False) -> Stream:
        """Start a command line there."""

    @abstractmethod
    def _copy(self, file: Path, path: str, seconds: float) -> None:
        """Copy a file there."""

    def __enter__(self) -> Self:
        self._connect()
        try:
            self._guard = self._start(shell_line(_GUARD, self.base), writing=True)
            try:
                self._make_folder()
            except BaseException:
                self._guard.end()
                raise
        except BaseException:
            self._disconnect()
            raise
        return self

    def _make_folder(self) -> None:
        """Hear from the guard where the folder is, and how much room it has."""
        printed: list[str] = []
        folder = None
        try:
            lines = self._guard.lines(_ANSWER_SECONDS)
            for line in lines:
                text = line.decode("utf-8", "replace").strip()
                if text.startswith(_MARKER):
                    folder = text.removeprefix(_MARKER)
                    break
                printed += [text] if text else []
            free = next(lines, b"").split()
        except TimeoutError:
            raise self._silent() from None
        if folder is None or not folder.startswith("/"):
            said = folder if folder is not None else self._guard.ending(_ANSWER_SECONDS).said
            said = said or (printed[-1][:200] if printed else "its shell printed nothing")
            raise PrivynetError(
                f"no temporary folder can be made on {self.name}: {said}",
                hint="free some room there, or set TMPDIR for its shell",
            )
        if printed:
            raise PrivynetError(
                f"the shell of {self.name} prints {printed[0][:80]!r} before what it is asked for",
                hint="let its start-up files print in interactive shells only",
            )
        self._folder = folder
        self._free = int(free[3]) * 1024 if len(free) > 3 and free[3].isdigit() else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                self._guard.end_input()
                clean = self._guard.ending(_ANSWER_SECONDS).code == 0
            except ConnectionCut:
                clean = False
            if not clean:
                self._sweep()
        finally:
            self._guard.end()
            self._disconnect()

    def _sweep(self) -> None:
        """Clean up over a new connection; where there is none, the guard on the target does it."""
        with suppress(PrivynetError):
            self._guard.end()
            self._disconnect()
            self._connect()
            self.call(_SWEEP, self._folder)

    @property
    def python(self) -> Sequence[str]:
        if self._found_python is None:
            self._found_python = find_python(self, self._wanted_python)
        return self._found_python

    @property
    def folder(self) -> str:
        return self._folder

    def put(self, file: Path, *, name: str | None = None, executable: bool = False) -> str:
        here = file_digest(file)
        kept = (file.name, name, executable, here)
        if kept in self._there and self._still_there(self._there[kept], here):
            return self._there[kept]
        size = file.stat().st_size
        if self._free is not None and size > self._free:
            message = (
                f"{file.name} takes {size / 1e3:,.0f} kB, {self.name} has {self._free / 1e3:,.0f} kB left"
            )
            raise PrivynetError(message, hint="free some room there, or set TMPDIR for its shell")
        self._files += 1
        path = f"{self._folder}/{name or f'{self._files}-{file.name}'}"
        self._copy(file, path, _ANSWER_SECONDS + size / _SLOWEST_BYTES_PER_SECOND)
        if self._free is not None:
            self._free -= size
        there = self._digest(path, 'chmod 700 "$0"' if executable else ":")
        if there != here:
            raise PrivynetError(
                f"{file.name} arrived damaged on {self.name}: its SHA-256 is {there[:12]}… instead of "
                f"{here[:12]}…",
                hint="is its disk full? try again",
            )
        self._there[kept] = path
        return path

    def _still_there(self, path: str, digest: str) -> bool:
        try:
            return self._digest(path) == digest
        except CommandFailed:
            return False

    def _digest(self, path: str, first: str = ":") -> str:
        """The SHA-256 of a file there, after a small command."""
        return self.call(f"{first}; {_DIGEST}", path)[:64].decode("ascii", "replace")

    @contextmanager
    def run(self, command: Sequence[str]) -> Iterator[Running]:
        stream = self._start(shell_line(_RUN, self._folder, *command))
        try:
            yield _Attributed(stream)
        finally:
            try:
                if stream.ending(_LEAVING_SECONDS).code is None:
                    self.call(_END, self._folder)
            except PrivynetError:
                pass  # the connection is gone; leaving the target sees to it
            finally:
                stream.end()

    def read(self, path: str) -> bytes:
        return self.call('cat "$0"', path)

    def call(self, script: str, *arguments: str, seconds: float = _ANSWER_SECONDS) -> bytes:
        """The stdout of a small shell script, ``arguments`` being $0, $1, …

        Raises :class:`CommandFailed` when it exits with another code than 0.
        """
        stream = self._start(shell_line(script, *arguments))
        try:
            lines = list(stream.lines(seconds))
            ending = stream.ending(seconds)
        except TimeoutError:
            raise self._silent() from None
        finally:
            stream.end()
        if ending.code != 0:
            raise CommandFailed(self.name, ending)
        return b"\n".join(lines)

    def _silent(self) -> PrivynetError:
        return PrivynetError(f"{self.name} does not answer", hint="nothing was measured; try again")


class CommandFailed(PrivynetError):
    """A small command failed on the target."""

    def __init__(self, target: str, ending: Ending) -> None:
        said = ending.said or f"exit code {ending.code}"
        super().__init__(f"a command failed on {target}: {said}", hint="nothing was measured; try again")
        self.ending = ending


class _Attributed(Running):
    """A program behind ``_RUN``: a shell says 128 + n of a program that signal n ended."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def lines(self, silence_seconds: float) -> Iterator[bytes]:
        return self._stream.lines(silence_seconds)

    def ending(self, seconds: float) -> Ending:
        ending = self._stream.ending(seconds)
        code = ending.code
        return Ending(128 - code, ending.said) if code is not None and 128 < code < 160 else ending


def shell_line(script: str, *arguments: str) -> str:
    """A script with its arguments as one line for a login shell."""
    return shlex.join(["sh", "-c", script, *arguments])
