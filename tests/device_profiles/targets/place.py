"""What the tests know of a place to measure on: where it keeps files, and how to break it."""

from __future__ import annotations

import os
import shutil
import sys
from abc import ABC, abstractmethod
from pathlib import Path

import psutil


class Place(ABC):
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

    def running(self) -> list[psutil.Process]:
        """The processes that run from the temporary folder."""
        found = []
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline()[1:])
            except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
                continue
            if str(self.temporary) in command and "agent.py" in command:
                found.append(process)
        return found

    def guards(self, process: psutil.Process) -> bool:
        """Whether a process is the one that waits for the end of a connection here."""
        try:
            return process.name() == "sh" and process.environ().get("TMPDIR") == str(self.temporary)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            return False

    @abstractmethod
    def cut(self) -> None:
        """Break the connection."""

    @abstractmethod
    def limit(self, kind: int, value: int) -> None:
        """Set a resource limit for what is started from now on."""


PYTHON = f"PATH='{os.environ.get('PATH', '')}'; export PATH; exec '{sys.executable}' \"$@\""
"""The script of a Python that has what the agent needs."""

SYSTEM = (
    *("sh", "cat", "chmod", "cp", "df", "head", "kill", "ls", "mktemp", "nproc", "rm", "sha256sum", "sleep"),
    *("tail", "touch", "tr", "uname", "wc"),
)
