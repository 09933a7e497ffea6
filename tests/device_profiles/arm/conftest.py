"""64-bit Arm under qemu-user for the tests marked ``arm``; they are left out where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import arm_sysroot


@pytest.fixture(scope="session")
def arm_python() -> Path:
    """A program that is an Arm Python with numpy, ONNX Runtime and Pillow."""
    return arm_sysroot.arm_python()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not arm_sysroot.missing_programs():
        return
    deselected = [item for item in items if item.get_closest_marker("arm")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("arm")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = arm_sysroot.missing_programs()
    if missing:
        terminalreporter.write_line(f"tests marked arm were left out: without {', '.join(missing)}")
