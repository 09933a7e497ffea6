"""What all tests share: where the real images and weights are, and one thread a test process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

# Before torch is imported anywhere: the tests run in parallel processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """A characterisation cache and own device profiles for all tests of a run; the user's are left alone."""
    if "PRIVYNET_CACHE" not in os.environ:
        cache = tempfile.TemporaryDirectory(prefix="privynet-cache-")
        os.environ["PRIVYNET_CACHE"] = cache.name
        config.add_cleanup(cache.cleanup)
    if "PRIVYNET_DEVICES" not in os.environ:
        devices = tempfile.TemporaryDirectory(prefix="privynet-devices-")
        os.environ["PRIVYNET_DEVICES"] = devices.name
        config.add_cleanup(devices.cleanup)


@pytest.fixture
def shared() -> Path:
    """The folder of real images (``data/``) and weights (``weights/``), for tests marked ``shared_data``."""
    return Path(os.environ["PRIVYNET_SHARED"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("PRIVYNET_SHARED"):
        return
    deselected = [item for item in items if item.get_closest_marker("shared_data")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("shared_data")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not os.environ.get("PRIVYNET_SHARED"):
        terminalreporter.write_line("tests marked shared_data were left out: PRIVYNET_SHARED is not set")
