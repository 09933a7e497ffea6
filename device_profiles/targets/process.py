"""A process of this machine: the agent itself, or a client that stands for a program elsewhere."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from .target import Ending, Running

LAST_BYTES = 4096


class LocalProcess(Running):
    """A started process. ``apart``: Ctrl-C on the terminal is not for it; ``writing``: it has a stdin."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path | None = None,
        apart: bool = False,
        writing: bool = False,
    ) -> None:
        super().__init__()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - end() closes it
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE if writing else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,
            # its own temporary files go with the folder
            env={**os.environ, "TMPDIR": str(folder)} if folder else None,
            start_new_session=apart,
        )
        # Daemonic: it ends with the process that it reads from.
        threading.Thread(target=self._read, daemon=True).start()

    def ending(self, seconds: float) -> Ending:
        try:
            code = self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return Ending(None, "")
        return Ending(code, last_line(self.stderr()))

    def stderr(self) -> bytes:
        """The end of what it wrote there."""
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - LAST_BYTES))
        return self._errors.read()

    def end_input(self) -> None:
        """Close its stdin."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def end(self) -> None:
        """Kill it, if it is still there."""
        self._process.kill()
        self._process.wait()
        self.end_input()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            while chunk := stream.read1(65536):  # type: ignore[attr-defined]
                self._chunks.put(chunk)
        self._chunks.put(None)


def last_line(text: bytes) -> str:
    """The last line with anything in it, cut to what fits into a message."""
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[:200] if lines else ""
