"""Running command lines, in this process and in one of their own; and whether a browser is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from privynet.toolkit.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command line left on the screen."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document

    @property
    def error(self) -> str:
        """The one line of error; there must be nothing else like it, and no traceback."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert self.err.endswith(lines[0] + "\n"), self.err
        return lines[0]


@pytest.fixture
def privynet(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``privynet ARGUMENTS`` in this process."""

    def run(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


COMMAND = (sys.executable, "-m", "privynet.toolkit.main")
"""``privynet`` in a process of its own."""


def run_process(arguments: Sequence[str | Path], **options: Any) -> Outcome:
    """Run ``privynet ARGUMENTS`` in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def chromium() -> str | None:
    """The browser that the tests marked ``browser`` use."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def tree(folder: Path) -> set[str]:
    """Every file and folder under ``folder``, hidden ones included."""
    return {os.path.relpath(path, folder) for path in folder.rglob("*")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chromium():
        return
    deselected = [item for item in items if item.get_closest_marker("browser")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("browser")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not chromium():
        terminalreporter.write_line("tests marked browser were left out: Chromium is not installed")
