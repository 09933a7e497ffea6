"""What the tests know of a place to measure on: where it keeps files, and how to break it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil


class Place:
    """A target with its own folder for temporary files and its own folder of programs, first on its PATH."""

    url: str

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.programs = folder / "bin"
        for made in (self.temporary, self.programs):
            made.mkdir(parents=True)
        self.program("python3", PYTHON)

    def program(self, name: str, script: str) -> Path:
        """Install a shell script."""
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.programs}:{self.system}",
            "TMPDIR": str(self.temporary),
            # or the shell of the login reads what is in the real one
            "HOME": str(self.programs),
        }

    @property
    def system(self) -> Path:
        """A folder with what a small system has, no Python among it."""
        folder = self.programs.with_name("system")
        if not folder.exists():
            folder.mkdir()
            for name in SYSTEM:
                found = shutil.which(name)
                assert found, name
                (folder / name).symlink_to(found)
        return folder

    def left(self) -> list[Path]:
        """The temporary files that are there."""
        return sorted(self.temporary.rglob("*"))

    def running(self, name: str = "") -> list[psutil.Process]:
        """The processes that have to do with the agent here; those of a program whose name holds ``name``."""
        return _found(lambda process: name in process.name() and self._is_of_agent(process.cmdline()))

    def is_clean(self) -> bool:
        """Whether nothing is left and nothing runs, or will be so within some seconds."""
        return eventually(lambda: self.left() == [] and self.running() == [])

    def guards(self) -> list[psutil.Process]:
        """The processes that wait for the end of a connection."""
        wanted = str(self.temporary)
        return _found(
            lambda process: (
                "mktemp" in " ".join(process.cmdline()) and process.environ().get("TMPDIR") == wanted
            )
        )

    def _is_of_agent(self, command: list[str]) -> bool:
        text = " ".join(command[1:])
        return str(self.temporary) in text and "agent.py" in text


class Elsewhere(Place, ABC):
    """A place with a connection to lose."""

    @abstractmethod
    def cut(self) -> None:
        """Break the connection."""

    @abstractmethod
    def limit(self, kind: int, value: int) -> None:
        """Set a resource limit for what is started from now on."""


PYTHON = f"PATH='{os.environ.get('PATH', '')}'; export PATH; exec '{sys.executable}' \"$@\""
"""The script of a Python that has what the agent needs."""


def eventually(holds: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _found(holds: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        # Many end while they are looked at.
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if holds(process):
                found.append(process)
    return found


SYSTEM = (
    *("sh", "cat", "chmod", "cp", "df", "head", "kill", "ls", "mktemp", "nproc", "rm", "sha256sum", "sleep"),
    *("tail", "touch", "tr", "uname", "wc"),
)
