"""A worker: a process of its own that opens data and backbones once more and runs trials of the study."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from ..artifacts import RunFolder
from ..errors import InputError, PrivynetError
from ..progress import Task
from .request import OpenSearch
from .search import make_judge, trial_runner
from .study import Storage, run_trials

if TYPE_CHECKING:
    from .workers import Order


class _Reports:
    """Lines for the parent on what was stdout; also a ``Progress``, of which only warnings go there."""

    def __init__(self) -> None:
        self._stream = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        yield _NoBar()

    def warn(self, message: str) -> None:
        self._write({"warning": message})

    def error(self, error: BaseException) -> None:
        """What the parent is to fail with."""
        told = error if isinstance(error, PrivynetError) else PrivynetError(_one_line(error))
        report = {
            "input": isinstance(told, InputError),
            "message": told.message,
            "hint": told.hint,
            "trace": traceback.format_exc(),
        }
        self._write({"error": report})

    def _write(self, report: object) -> None:
        self._stream.write(json.dumps(report) + "\n")


class _NoBar:
    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        pass


def work() -> NoReturn:
    """Do what the order on stdin says, then exit: 0 when nothing is left to do."""
    # This is Python's own stream from the parent; nobody else can write to it.
    order: Order = pickle.load(sys.stdin.buffer)
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reports = _Reports()
    try:
        run = RunFolder.open(order.run)
        opened = OpenSearch.open(order.request, progress=reports)
        storage = opened.reach() or Storage.journal(run.journal, repair=False)
        study = opened.study(storage, owner=order.owner)
        run_trials(
            study,
            trial_runner(opened, make_judge(opened, run), study, progress=reports),
            trials=order.request.trials,
            deadline=order.deadline,
            progress=reports,
        )
    except Exception as error:
        reports.error(error)
        sys.exit(1)
    sys.exit(0)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _end_with_parent() -> None:
    """The pipe closes when the parent is gone, however it went."""
    # Not through the stream, whose lock would be held when the interpreter ends.
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return ": ".join(["a worker failed", type(error).__name__, *lines[:1]])
