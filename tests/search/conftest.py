"""A real PostgreSQL for the tests of storages and workers; they are left out where it is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .temporary_postgresql import TemporaryPostgresql, binaries


@pytest.fixture(scope="session")
def postgresql() -> Iterator[TemporaryPostgresql]:
    """A server for all tests."""
    with TemporaryPostgresql() as server:
        yield server


@pytest.fixture
def new_database(postgresql: TemporaryPostgresql) -> Callable[[], str]:
    """Makes an empty database and returns its URL."""
    return postgresql.database


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if binaries():
        return
    deselected = [item for item in items if item.get_closest_marker("postgresql")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("postgresql")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not binaries():
        terminalreporter.write_line("tests marked postgresql were left out: PostgreSQL is not installed")
