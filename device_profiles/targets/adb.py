"""A phone as a target, over the real adb client and its server."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from ...errors import InputError, PrivynetError
from .process import LocalProcess, last_line
from .shell_target import ShellTarget, Stream
from .target import ConnectionCut, Ending

_ANSWER_SECONDS = 30.0
_RECONNECT_SECONDS = 5.0
_ENDED = re.compile(rb"(?P<said>.*?)^ended (?P<code>\d+)\s*\Z", re.DOTALL | re.MULTILINE)
"""What we let the phone say last. adb's own exit code does not tell a lost connection from an end."""
_SAY = 'code=$?; { echo; echo "ended $code"; } >&2'
"""On a line of its own, whatever the command left unfinished."""


class AdbTarget(ShellTarget):
    """``adb://SERIAL``, as ``adb devices`` lists it."""

    base = "/data/local/tmp"
    without_python = "name Termux's with --python, or give --perf-test FILE"

    def __init__(self, name: str, *, serial: str, python: str | None = None) -> None:
        super().__init__(name, python=python)
        self._serial = serial
        self._client: list[str] | None = None

    def _connect(self) -> None:
        program = shutil.which("adb")
        if program is None:
            raise InputError("adb is not installed", hint="sudo apt-get install adb")
        again = self._client is not None
        self._client = [program, "-s", self._serial]
        until = time.monotonic() + (_RECONNECT_SECONDS if again else 0)
        while True:
            try:
                self._check()
                return
            except PrivynetError:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.2)

    def _check(self) -> None:
        state = self._adb("get-state", seconds=_ANSWER_SECONDS)
        said = (last_line(state.stdout) or last_line(state.stderr)).removeprefix("error: ")
        if said != "device":
            raise InputError(
                f"{self.name} is not there: {said}",
                hint="adb devices lists those that are; a phone must have USB debugging on, and allow it",
            )
        features = self._adb("features", seconds=_ANSWER_SECONDS).stdout.split()
        if b"shell_v2" not in features:
            raise InputError(
                f"{self.name} does not tell how a command ended", hint="Android 7 or later is needed"
            )

    def _disconnect(self) -> None:
        pass  # adb's server holds the connection, and stays

    def _start(self, command: str, *, writing: bool = False) -> Stream:
        assert self._client is not None
        return _AdbStream(self.name, [*self._client, "shell", "-T", command], writing=writing)

    def _copy(self, file: Path, path: str, seconds: float) -> None:
        done = self._adb("push", str(file.resolve()), path, seconds=seconds)
        if done.returncode == 0:
            return
        if self._adb("get-state", seconds=_ANSWER_SECONDS).returncode != 0:
            raise _cut(self.name)
        printed = (done.stdout + done.stderr).splitlines()
        said = last_line(next((line for line in printed if b"error: " in line), b"").rpartition(b": ")[2])
        raise PrivynetError(
            f"{file.name} cannot be copied to {self.name}: {said or 'adb push failed'}",
            hint="free some room there",
        )

    def _adb(self, *arguments: str, seconds: float) -> subprocess.CompletedProcess[bytes]:
        assert self._client is not None
        try:
            return subprocess.run(
                [*self._client, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise self._silent() from None


class _AdbStream(LocalProcess, Stream):
    """A command on the phone: the client stands for it, and exits as it did."""

    def __init__(self, target: str, command: list[str], *, writing: bool) -> None:
        self._target = target
        # Ctrl-C is for us: a client that it ends would take the guard's connection away.
        *client, line = command
        super().__init__([*client, f"{line}; {_SAY}"], apart=True, writing=writing)

    def ending(self, seconds: float) -> Ending:
        if super().ending(seconds).code is None:
            return Ending(None, "")
        ended = _ENDED.fullmatch(self.stderr())
        if ended is None:
            raise _cut(self._target)
        return Ending(int(ended["code"]), last_line(ended["said"]))


def _cut(target: str) -> ConnectionCut:
    return ConnectionCut(f"the connection to {target} was cut", hint="nothing was measured; try again")
