"""Many processes on one machine that work on one study."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import InputError, PrivynetError
from ..progress import SILENT, Progress
from .request import SearchRequest
from .study import SearchStudy
from .study.trials import POLL_S, ShownTrials

_ENDING_S = 1.0
"""So long a worker has to end by itself."""

# Not multiprocessing: it would run the main module of whoever calls search once more. The paths come first,
# so that the worker finds privynet, and backbones of the user's, where its parent does.
_WORKER = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from privynet.search.worker import work; work()"
)


@dataclass(frozen=True)
class Order:
    """What a worker is told, over a pipe from its parent: a URL's password shows in no list of processes."""

    request: SearchRequest
    run: Path
    owner: str
    deadline: float | None


def run_workers(
    request: SearchRequest,
    run: Path,
    study: SearchStudy,
    *,
    owner: str,
    deadline: float | None = None,
    progress: Progress = SILENT,
) -> None:
    """Have ``request.workers`` processes run the study's trials; return when nothing is left for them to do.

    Of one that is killed, the trial waits to be run again, once, and another process takes its place. When
    this process is interrupted, or killed, all of them end. ``owner`` is what the run is called in the study.

    Raises:
        PrivynetError: what a worker failed with; or they are killed again and again.
    """
    crew = _Crew(request, run, owner, deadline)
    with study.storage.working(), crew.ending(study), progress.task("trials", request.trials) as task:
        shown = ShownTrials(task, request.trials)
        while crew.attend(study, progress):
            crew.has_finished(shown.update(study.records()))
            time.sleep(POLL_S)
        shown.update(study.records())


class _Crew:
    """The workers that are at work."""

    def __init__(self, request: SearchRequest, run: Path, owner: str, deadline: float | None) -> None:
        self._request, self._run, self._owner, self._deadline = request, run, owner, deadline
        self._workers: list[_Worker] = []
        self._started = 0
        self._finished = self._deaths = 0
        self._warned: set[str] = set()

    @contextmanager
    def ending(self, study: SearchStudy) -> Iterator[None]:
        """Workers at work; none is left when the context ends, and their trials wait to be run again."""
        try:
            for _ in range(self._request.workers):
                self._start()
            yield
        finally:
            for worker in self._workers:
                worker.process.terminate()
            until = time.monotonic() + _ENDING_S
            for worker in self._workers:
                worker.end(until)
            if self._workers:
                # What cannot be written now is found when the run goes on.
                with contextlib.suppress(Exception):
                    study.claims.retry_of(self._owner, died=False)

    def attend(self, study: SearchStudy, progress: Progress) -> bool:
        """Look after those that have ended; whether any is at work."""
        for worker in list(self._workers):
            ended = worker.process.poll() is not None
            for report in worker.reports():
                error, warning = report.get("error"), report.get("warning")
                if error is not None:
                    kind = InputError if error["input"] else PrivynetError
                    raise kind(error["message"], hint=error["hint"]) from RuntimeError(error["trace"])
                if warning is not None and warning not in self._warned:
                    self._warned.add(warning)
                    progress.warn(warning)
            if ended:
                self._workers.remove(worker)
                if worker.process.returncode != 0:
                    self._replace(worker, study)
                worker.close()
        return bool(self._workers)

    def has_finished(self, trials: int) -> None:
        """So many trials of the study are finished: deaths count from the last one on."""
        if trials > self._finished:
            self._finished, self._deaths = trials, 0

    def _replace(self, dead: _Worker, study: SearchStudy) -> None:
        study.claims.retry_of(dead.owner, died=True)
        self._deaths += 1
        if self._deaths > self._request.workers + 1:
            raise PrivynetError(
                f"workers end one after the other ({dead.cause()})",
                hint="if memory is short, give fewer --workers",
            )
        self._start()

    def _start(self) -> None:
        self._started += 1
        owner = f"{self._owner}.{self._started}-{os.urandom(4).hex()}"
        order = Order(self._request, self._run, owner, self._deadline)
        self._workers.append(_Worker(order, threads=threads_each(self._request.workers)))


class _Worker:
    """One process. It lives no longer than the pipe from its parent, however that ends."""

    def __init__(self, order: Order, *, threads: int) -> None:
        self.owner = order.owner
        self._read = 0
        self._reports: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by ``close``)
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # Ctrl-C is for the parent, which ends the workers: hence a session of their own.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=self._reports,
            stderr=self._stderr,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already, and will be replaced
            self.process.stdin.write(pickle.dumps(sys.path) + pickle.dumps(order))
            self.process.stdin.flush()

    def reports(self) -> Iterator[dict[str, Any]]:
        """What it has said since the last time."""
        size = os.fstat(self._reports.fileno()).st_size
        new = os.pread(self._reports.fileno(), size - self._read, self._read)
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)

    def cause(self) -> str:
        """What ended it."""
        code = self.process.returncode
        if code < 0:
            return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    def end(self, until: float) -> None:
        """Wait for its end, at most until a point of ``time.monotonic``; then kill it."""
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Let go of its files."""
        self._reports.close()
        self._stderr.close()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def threads_each(workers: int) -> int:
    """A worker's share of the processors this process may use, at least 1; no more than it was given."""
    # macOS has no affinity.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, usable // workers)
    return min(share, int(given)) if given.isdigit() and int(given) > 0 else share
