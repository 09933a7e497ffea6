"""Many processes on one study: all that is asked for is run, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from privynet.errors import InputError, PrivynetError
from privynet.search import search
from privynet.search.study import Storage
from privynet.search.workers import threads_each

from . import cheap

pytestmark = pytest.mark.postgresql

NewDatabase = Callable[[], str]
Place = tuple[dict[str, str], Callable[[], Storage]]

CHEAP: dict[str, Any] = {**cheap.CHEAP, "trials": 6}
# Networks are trained and found to leak, so that there is nothing to certify.
STRICT: dict[str, Any] = {
    **CHEAP,
    "limits": {"r2": 0.0001},
    "sampler": "random",
}
# Without a main module to import, as in a notebook. What a shell runs in its background ignores interrupts,
# and so do its children.
SCRIPT = """
import json, signal, sys
from pathlib import Path
from privynet.search import search
signal.signal(signal.SIGINT, signal.default_int_handler)
request = json.loads(sys.argv[1])
print(json.dumps(search(**{**request, "out": Path(request["out"])})))
"""
_ENOUGH_S = 200.0


def trials_in(storage: Storage) -> list[FrozenTrial]:
    """All trials of the study, as others see them; none where there is no study yet."""
    try:
        return optuna.load_study(study_name="privynet", storage=storage.backend).get_trials()
    except KeyError:
        return []


@contextmanager
def searching(out: Path, **request: Any) -> Iterator[subprocess.Popen[str]]:
    """A search in a process of its own; neither it nor its workers survive the context."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps({**STRICT, **request, "out": str(out)})],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for one in [*workers_of(process), process]:
            one.kill()
        process.communicate()


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return []


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _ENOUGH_S
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(params=("journal", "postgresql"))
def place(request: pytest.FixtureRequest, tmp_path: Path, new_database: NewDatabase) -> Place:
    """The options of a storage, and what opens it once it is there."""
    if request.param == "journal":
        return {}, lambda: Storage.journal(tmp_path / "run" / "study.journal", repair=False)
    url = new_database()
    return {"storage": url}, lambda: Storage.at(url)


def stop_in_the_middle(process: subprocess.Popen[str], storage: Storage) -> list[psutil.Process]:
    """Wait until something is finished and both workers are in mid-trial; they stand still then."""
    workers: list[psutil.Process] = []

    def stopped() -> bool:
        nonlocal workers
        workers = workers_of(process)
        if not in_the_middle(trials_in(storage)):
            return False
        for worker in workers:
            worker.suspend()
        if in_the_middle(trials_in(storage)):
            return True
        for worker in workers:
            worker.resume()
        return False

    wait_until(stopped, process)
    assert len(workers) == 2
    return workers


def in_the_middle(trials: list[FrozenTrial]) -> bool:
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return len(finished) >= 1 and len(running) == 2 and all("policy" in trial.params for trial in running)


def test_a_killed_worker_costs_no_finished_trial_and_its_own_is_run_again_once(
    tmp_path: Path, place: Place
) -> None:
    options, opened = place
    with searching(tmp_path / "run", trials=5, workers=2, **options) as process:
        wait_until((tmp_path / "run" / "owner.json").exists, process)
        storage = opened()
        killed, alive = stop_in_the_middle(process, storage)
        before = trials_in(storage)
        killed.kill()
        alive.resume()
        out, err = process.communicate(timeout=_ENOUGH_S)
    assert process.returncode == 0, err
    assert json.loads(out)["trials"]["total"] == 5
    after = trials_in(opened())
    for trial in before:
        if trial.state == TrialState.COMPLETE:
            assert after[trial.number] == trial
    running = {trial.number for trial in before if trial.state == TrialState.RUNNING}
    failed = [trial for trial in after if trial.state == TrialState.FAIL]
    assert len(failed) == 1 and failed[0].number in running
    again = [trial for trial in after if trial.user_attrs.get("retry_of") == failed[0].number]
    assert [trial.params for trial in again] == [failed[0].params]
    assert all(
        trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in after if trial not in failed
    )


@pytest.mark.parametrize(
    ("place", "number"),
    (("journal", signal.SIGKILL), ("postgresql", signal.SIGINT)),
    indirect=["place"],
)
def test_however_the_search_ends_its_workers_do_and_the_same_command_goes_on(
    tmp_path: Path, place: Place, number: signal.Signals
) -> None:
    options, opened = place
    with searching(tmp_path / "run", trials=4, workers=2, **options) as process:
        wait_until((tmp_path / "run" / "owner.json").exists, process)
        workers = stop_in_the_middle(process, opened())
        for worker in workers:
            worker.resume()
        process.send_signal(number)
        out, _ = process.communicate(timeout=_ENOUGH_S)
        psutil.wait_procs(workers, timeout=_ENOUGH_S)
        assert not any(worker.is_running() for worker in workers)
    assert out == ""
    kept = [trial for trial in trials_in(opened()) if trial.state == TrialState.COMPLETE]
    with searching(tmp_path / "run", trials=4, **options) as process:
        out, err = process.communicate(timeout=_ENOUGH_S)
    assert process.returncode == 0, err
    assert json.loads(out)["trials"]["total"] == 4
    after = trials_in(opened())
    assert all(after[trial.number] == trial for trial in kept)
    assert not any(trial.state in (TrialState.RUNNING, TrialState.WAITING) for trial in after)


def test_two_machines_share_the_trials_and_each_chooses_for_itself(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    url = new_database()
    options: dict[str, Any] = {"trials": 4, "storage": url, "limits": {"r2": 0.99}}
    with searching(tmp_path / "one", **options) as one, searching(tmp_path / "two", **options) as two:
        results = {}
        for name, process in (("one", one), ("two", two)):
            out, err = process.communicate(timeout=_ENOUGH_S)
            assert process.returncode == 0, err
            results[name] = json.loads(out)
    assert results["one"]["trial_table"] == results["two"]["trial_table"]
    assert results["one"]["trials"]["total"] == 4
    trials = trials_in(Storage.at(url))
    owners = {json.loads((tmp_path / name / "owner.json").read_text())["owner"] for name in ("one", "two")}
    assert {trial.user_attrs["owner"] for trial in trials} <= owners and len(owners) == 2
    secrets = {(tmp_path / name / "secret.json").read_text() for name in ("one", "two")}
    assert len(secrets) == 2
    for name in ("one", "two"):
        assert (tmp_path / name / "encoder.onnx").exists()


def test_workers_run_what_one_process_would_and_show_it_in_one_bar(tmp_path: Path) -> None:
    shown: list[tuple[str, float]] = []

    class Bars:
        @contextmanager
        def task(self, description: str, total: float | None = None) -> Iterator[Any]:
            class Bar:
                def advance(self, steps: float = 1, *, note: str | None = None) -> None:
                    shown.append((description, steps))

            yield Bar()

        def warn(self, message: str) -> None:
            raise AssertionError(message)

    random = {**CHEAP, "sampler": "random"}
    alone = search(out=tmp_path / "alone", **random)
    many = search(out=tmp_path / "many", workers=2, progress=Bars(), **random)
    point = ("cut", "channels", "policy")
    # What is drawn follows from the trial's number alone, here where nothing is learnt from others.
    assert [[row[key] for key in point] for row in many["trial_table"]] == [
        [row[key] for key in point] for row in alone["trial_table"]
    ]
    assert sum(steps for description, steps in shown if description == "trials") == 6


_FACTORY = """
import os
from torch import nn

def fine_once() -> nn.Module:
    if os.environ["PARENT"] != str(os.getpid()):
        {failure}
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
"""


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    (
        (
            "from privynet.errors import InputError; raise InputError('no such thing')",
            InputError,
            "no such thing",
        ),
        (
            "os.kill(os.getpid(), 9)",
            PrivynetError,
            r"workers end one after the other \(SIGKILL\); .* fewer --workers",
        ),
    ),
)
def test_what_a_worker_fails_with_is_one_line_of_the_search(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
    expected: type[PrivynetError],
    message: str,
) -> None:
    (tmp_path / "a_factory.py").write_text(_FACTORY.format(failure=failure))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PARENT", str(os.getpid()))
    with pytest.raises(PrivynetError, match=message) as raised:
        search(
            out=tmp_path / "run",
            backbones=("a_factory:fine_once,weights=random,mean=0.5,std=0.5",),
            workers=2,
            **CHEAP,
        )
    assert type(raised.value) is expected
    assert not any(
        "privynet.search.worker" in " ".join(child.cmdline()) for child in psutil.Process().children()
    )


def test_workers_share_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_each(1) == usable
    assert threads_each(1000) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads_each(1) == 1


@pytest.mark.parametrize(
    ("workers", "message"), ((0, "0 workers are too few"), (10_000, "too many; allowed"))
)
def test_a_number_of_workers_out_of_range_is_refused(tmp_path: Path, workers: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(out=tmp_path / "run", workers=workers, **CHEAP)
    assert not (tmp_path / "run").exists()
