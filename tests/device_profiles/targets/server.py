"""A server for the tests, which ends with the process that started it, however that one ends."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

_UNTIL_EOF = '"$0" "$@" <&- & read -r _; kill -9 $!; wait $!'
_STARTING_S = 20.0


class Server:
    """A started server; its stdout is to be read, its stderr goes to a file or nowhere."""

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        with (log or Path(os.devnull)).open("wb") as errors:
            self._shell = subprocess.Popen(
                ["sh", "-c", _UNTIL_EOF, *command],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the one that started it
            )
        until = time.monotonic() + _STARTING_S
        while not (found := psutil.Process(self._shell.pid).children()):
            assert time.monotonic() < until
            time.sleep(0.01)
        self.process = found[0]

    @property
    def output(self) -> IO[bytes]:
        assert self._shell.stdout is not None
        return self._shell.stdout

    def end(self) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()
        self.output.close()
