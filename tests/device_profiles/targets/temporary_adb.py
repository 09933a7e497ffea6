"""A phone: the real adb client and server, on a port of their own, and a daemon that answers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from .place import Elsewhere
from .server import Server
from .temporary_sshd import free_port

DAEMON = Path(__file__).with_name("adb_daemon.py")
_STARTING_S = 20.0


def adb() -> str | None:
    return shutil.which("adb")


class AdbServer:
    """adb's server; ``environment`` is what leads clients to it."""

    def __init__(self, folder: Path) -> None:
        self.environment = {
            "ANDROID_ADB_SERVER_PORT": str(free_port()),
            # no looking for emulators
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
            "HOME": str(folder),
        }

    def __enter__(self) -> AdbServer:
        self._server = Server([str(adb()), "nodaemon", "server"], environment=self.environment)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.end()

    def call(self, *arguments: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            [str(adb()), *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        ).stdout


class Phone(Elsewhere):
    """The daemon, connected to a server."""

    def __init__(self, folder: Path, server: AdbServer) -> None:
        super().__init__(folder)
        self._adb = server

    def __enter__(self) -> Phone:
        self._daemon = Server([sys.executable, str(DAEMON)], environment=self.environment)
        self._serial = f"127.0.0.1:{int(self._daemon.output.readline())}"
        self.url = f"adb://{self._serial}"
        until = time.monotonic() + _STARTING_S
        while "device" not in self._adb.call("-s", self._serial, "get-state"):
            self._adb.call("connect", self._serial)
            assert time.monotonic() < until
        return self

    def __exit__(self, *_: object) -> None:
        self._adb.call("disconnect", self._serial)
        self._daemon.end()

    def cut(self) -> None:
        self._daemon.process.send_signal(signal.SIGUSR1)

    def limit(self, kind: int, value: int) -> None:
        self._daemon.process.rlimit(kind, (value, value))
