"""Where studies are kept: a journal or a real PostgreSQL, shared by many, with nothing secret in it."""

from __future__ import annotations

import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from privynet.device_profiles import load_profile
from privynet.errors import InputError
from privynet.search import Limits, search
from privynet.search.characterisation import Estimate
from privynet.search.evaluation import Evaluation, TrialRecord
from privynet.search.space import Candidate
from privynet.search.study import SearchStudy, Storage, run_trials
from privynet.toolkit.main import main

from ..cheap import CHEAP
from ..temporary_postgresql import PASSWORD, TemporaryPostgresql

pytestmark = pytest.mark.postgresql

NewDatabase = Callable[[], str]

LIMITS = Limits.resolve({"macs": 100.0, "r2": 0.5}, load_profile("raspberry-pi-zero-2w"))


@pytest.fixture(params=("journal", "postgresql"))
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: NewDatabase
) -> Callable[[], Storage]:
    """Opens one and the same storage again and again, as different processes would."""
    if request.param == "journal":
        return lambda: Storage.journal(tmp_path / "study.journal", repair=False)
    url = new_database()
    return lambda: Storage.at(url)


def open_study(storage: Storage, *, seed: int = 0, sampler: str = "random", **options: Any) -> SearchStudy:
    return SearchStudy(
        storage, LIMITS, identity={"seed": seed}, sampler=sampler, seed=seed, trials=20, **options
    )


def pruned(study: SearchStudy, *, seconds: float = 0.0) -> Callable[[optuna.Trial], TrialRecord]:
    """Runs a trial that takes so long and breaks a limit."""

    def run(trial: optuna.Trial) -> TrialRecord:
        count = trial.suggest_int("channels", 1, 10_000)
        time.sleep(seconds)
        return study.prune(trial, Candidate(0, 16, "cut", count, "fisher"), (count, 4, 4), {"macs": 200.0})

    return run


def trials_of(study: SearchStudy, storage: Storage) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="privynet", storage=storage.backend).get_trials()


@pytest.mark.parametrize(
    ("url", "message"),
    (
        ("postgresql://user:hunter2@127.0.0.1:1/studies", r"127\.0\.0\.1:1/studies cannot be reached"),
        ("postgresql://user:hunter2@no.such.host.invalid/studies", "cannot be reached"),
        ("postgresql://user:hunter2@host:port/studies", "is no URL of a database"),
        ("user:hunter2", "is no URL of a database"),
        ("mysql://user:hunter2@host/studies", "driver of mysql is not installed; install its module MySQLdb"),
        ("redis://user:hunter2@host", "unknown kind of database 'redis'"),
        ("sqlite://", "a database in memory is gone with its process"),
        ("sqlite:////no/such/folder/hunter", "cannot be reached: unable to open database file"),
    ),
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(
    tmp_path: Path, url: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        search(out=tmp_path / "run", storage=url, **CHEAP)
    shown = "".join(traceback.format_exception(raised.value))
    assert "hunter2" not in shown.replace(url, "")  # the line of source that pytest would show
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_wrong_password_or_database_is_said_by_the_server(
    tmp_path: Path, postgresql: TemporaryPostgresql
) -> None:
    with pytest.raises(InputError, match="password authentication failed") as raised:
        Storage.at(postgresql.url("postgres", password="hunter2"))
    assert "hunter2" not in "".join(traceback.format_exception(raised.value)).replace('"hunter2"', "")
    with pytest.raises(InputError, match='database "nowhere" does not exist'):
        Storage.at(postgresql.url("nowhere"))


def test_without_the_driver_the_extra_is_named(
    postgresql: TemporaryPostgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # importing it fails
    with pytest.raises(InputError, match=r"pip install 'privynet\[postgresql\]'"):
        Storage.at(postgresql.url("postgres"))


def test_the_verb_says_so_in_one_line_with_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVYNET_STORAGE", "postgresql://user:hunter2@127.0.0.1:1/studies")
    line = ["search", "--device", "raspberry-pi-zero-2w", "--data", "digits", "--out", str(tmp_path / "run")]
    assert main([*line, "--study", "mine", "--workers", "2"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and "hunter2" not in err
    assert err.splitlines()[-1].startswith("error: the storage postgresql://127.0.0.1:1/studies cannot be")


def test_a_study_without_a_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a study 'mine' without a storage"):
        search(out=tmp_path / "run", study="mine", **CHEAP)


def test_the_same_call_goes_on_in_the_database_and_another_run_shares_its_trials(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    there: dict[str, Any] = {"storage": new_database(), "study": "digits"}
    first = search(out=tmp_path / "one", **CHEAP, **there)
    assert first["trials"]["total"] == 3
    longer = search(out=tmp_path / "one", **{**CHEAP, "trials": 4}, **there)
    assert longer["trial_table"][:3] == first["trial_table"] and longer["trials"]["total"] == 4
    other = search(out=tmp_path / "two", **{**CHEAP, "trials": 4, "images": False}, **there)
    assert other["trial_table"] == longer["trial_table"]
    with pytest.raises(InputError, match="is the run of another search: study differ"):
        search(out=tmp_path / "one", **CHEAP)
    assert PASSWORD not in "".join(
        file.read_text(errors="replace") for file in tmp_path.rglob("*") if file.is_file()
    )


@pytest.mark.parametrize(
    ("change", "differ"),
    (({"limits": {"macs": 7000.0}}, "limits"), ({"input_sizes": (8,)}, "input_sizes"), ({"seed": 1}, "seed")),
)
def test_a_study_of_another_search_under_the_same_name_is_refused(
    tmp_path: Path, new_database: NewDatabase, change: dict[str, Any], differ: str
) -> None:
    url = new_database()
    search(out=tmp_path / "one", storage=url, **{**CHEAP, "trials": 1})
    with pytest.raises(InputError, match=f"'privynet' .* that of another search: {differ} differ; .*--study"):
        search(out=tmp_path / "two", storage=url, **{**CHEAP, **change})
    assert not (tmp_path / "two").exists()
    search(out=tmp_path / "two", storage=url, study="another", **{**CHEAP, "trials": 1, **change})


def test_a_study_that_is_not_privynets_is_left_alone(tmp_path: Path, new_database: NewDatabase) -> None:
    url = new_database()
    storage = Storage.at(url)
    theirs = optuna.create_study(storage=storage.backend, study_name="privynet")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(InputError, match="is none of privynet's; give another --study"):
        search(out=tmp_path / "run", storage=url, **CHEAP)
    assert theirs.user_attrs == {} and len(theirs.trials) == 1


def test_no_secret_no_path_and_no_host_goes_into_the_database(
    tmp_path: Path, postgresql: TemporaryPostgresql
) -> None:
    import json

    url = postgresql.database()
    evaluated = {"limits": {"r2": 0.99}, "trials": 2, "sampler": "random"}
    result = search(out=tmp_path / "run", storage=url, **{**CHEAP, **evaluated})
    assert result["trials"]["evaluated"] > 0
    content = postgresql.text(url)
    assert '"policy"' in content
    secret = json.loads((tmp_path / "run" / "secret.json").read_text())["secret"]
    for hidden in (
        secret,
        bytes.fromhex(secret).decode("latin1"),
        PASSWORD,
        str(tmp_path),
        socket.gethostname(),
    ):
        assert hidden not in content
    kept = result["encoder"]["channels"]
    assert kept is None or json.dumps(kept) not in content


def test_a_trial_that_fails_says_so_and_is_not_run_into_again(storage: Callable[[], Storage]) -> None:
    place = storage()
    study = open_study(place)

    def fails(trial: optuna.Trial) -> TrialRecord:
        trial.suggest_int("channels", 1, 10_000)
        raise RuntimeError("no such operator")

    with pytest.raises(RuntimeError, match="no such operator"):
        run_trials(study, fails, trials=3)
    (failed,) = trials_of(study, place)
    assert failed.state == TrialState.FAIL
    run_trials(study, pruned(study), trials=2)
    later = [trial for trial in trials_of(study, place) if trial.number != failed.number]
    assert [trial.state for trial in later] == [TrialState.PRUNED] * 2
    assert failed.params not in [trial.params for trial in later]


def test_an_interrupted_trial_is_run_again(storage: Callable[[], Storage]) -> None:
    place = storage()
    study = open_study(place)

    def interrupted(trial: optuna.Trial) -> TrialRecord:
        trial.suggest_int("channels", 1, 10_000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(study, interrupted, trials=3)
    (cut_off,) = [trial for trial in trials_of(study, place) if trial.params]
    run_trials(study, pruned(study), trials=1)
    (again,) = [trial for trial in trials_of(study, place) if trial.state == TrialState.PRUNED]
    assert again.params == cut_off.params


def test_violations_are_named_constraints_and_the_list_that_dashboards_read(
    storage: Callable[[], Storage],
) -> None:
    place = storage()
    study = open_study(place, sampler="tpe")
    for metrics in ({"macs": 200.0}, {"macs": 50.0, "r2": 0.6}, {"macs": 50.0, "r2": 0.4}):
        trial = study.ask(20)
        assert trial is not None
        candidate = Candidate(0, 16, "cut", 1, "fisher")
        if "r2" in metrics:
            estimates = {"accuracy": Estimate(0.5, 0.1), "r2": Estimate(metrics["r2"], 0.0)}
            study.finish(trial, candidate, (1, 4, 4), metrics, Evaluation("closed-form", estimates, {}, {}))
        else:
            study.prune(trial, candidate, (1, 4, 4), metrics)
    expected = ({"macs": 1.0, "r2": 0.0}, {"macs": -0.5, "r2": 0.2}, {"macs": -0.5, "r2": -0.2})
    for trial, record, violations in zip(trials_of(study, place), study.records(), expected, strict=True):
        named = {metric: trial.system_attrs[f"constraints:{metric}"] for metric in LIMITS.by_metric}
        for metric, violation in violations.items():
            assert named[metric] == pytest.approx(violation)
        assert trial.user_attrs["constraints"] == named
        listed = trial.system_attrs["constraints"]
        assert listed == list(named.values())
        assert all(violation <= 0 for violation in listed) == record.feasible


def test_many_that_ask_at_once_run_as_many_trials_as_were_asked_for(storage: Callable[[], Storage]) -> None:
    open_study(storage())
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            study = open_study(storage(), owner=f"run.{number}")
            together.wait(60)
            run_trials(study, pruned(study), trials=12)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    place = storage()
    study = open_study(place)
    assert len(study.records()) == 12
    running = [trial for trial in trials_of(study, place) if not trial.state.is_finished()]
    assert not running
    # One seed for all, and still no two draw the same.
    assert len({record.candidate for record in study.records()}) == 12


def test_what_is_drawn_does_not_depend_on_how_often_the_study_was_opened(tmp_path: Path) -> None:
    def drawn(name: str, *, pieces: int) -> list[Candidate]:
        for trials in range(6 // pieces, 7, 6 // pieces):
            study = open_study(Storage.journal(tmp_path / name, repair=True), sampler="tpe")
            run_trials(study, pruned(study), trials=trials)
        return [record.candidate for record in study.records()]

    assert drawn("whole", pieces=1) == drawn("pieces", pieces=3)


def test_the_trial_of_a_process_that_shows_no_life_is_run_again_once(new_database: NewDatabase) -> None:
    place = Storage.at(new_database())
    beats: dict[str, Any] = {"beat_s": 0.1, "grace_s": 0.6}
    dead, alive = (open_study(place, owner=owner, **beats) for owner in ("a.1", "b.1"))
    lost, held = dead.ask(3), dead.ask(3)
    assert lost is not None and held is not None
    count = lost.suggest_int("channels", 1, 10_000)
    held.suggest_int("channels", 1, 10_000)
    with dead.claims.beating(held):  # one of its two trials goes on
        # It would wait for the trial that goes on.
        run_trials(alive, pruned(alive), trials=2, deadline=time.time() + 4)
        rows = trials_of(alive, place)
        assert rows[held.number].state == TrialState.RUNNING
    assert rows[lost.number].state == TrialState.FAIL
    again = [row for row in rows if row.user_attrs.get("retry_of") == lost.number]
    assert [row.params["channels"] for row in again] == [count]
    assert again[0].state == TrialState.PRUNED
    # It was not dead after all: what it has to say comes too late.
    with pytest.raises(UpdateFinishedTrialError):
        dead.prune(lost, Candidate(0, 16, "cut", 1, "fisher"), (1, 4, 4), {"macs": 200.0})


def test_a_trial_that_kills_whoever_runs_it_is_given_up(storage: Callable[[], Storage]) -> None:
    place = storage()
    for death in range(3):
        study = open_study(place, owner=f"run.{death}")
        trial = study.ask(1)
        assert trial is not None
        if death < 2:
            assert trial.suggest_int("channels", 1, 10_000) == trials_of(study, place)[0].params["channels"]
        else:
            assert "retry_of" not in trial.user_attrs
        study.claims.retry_of("run", died=True)


def test_a_trial_taken_over_by_others_does_not_end_the_process_that_comes_too_late(
    storage: Callable[[], Storage],
) -> None:
    place = storage()
    slow, other = open_study(place, owner="a.1"), open_study(place, owner="b.1")
    taken: list[int] = []

    def run(trial: optuna.Trial) -> TrialRecord:
        if not taken:
            taken.append(trial.number)
            trial.suggest_int("channels", 1, 10_000)
            other.claims.retry_of("a.1", died=True)
        return pruned(slow)(trial)

    run_trials(slow, run, trials=3)
    assert len(slow.records()) == 3
    assert trials_of(slow, place)[taken[0]].state == TrialState.FAIL


def test_a_line_cut_off_by_a_kill_harms_nobody_who_has_the_journal_open(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    one, two = (open_study(Storage.journal(journal, repair=False), owner=owner) for owner in ("a.1", "a.2"))
    run_trials(one, pruned(one), trials=2)
    with journal.open("ab") as file:
        file.write(b'{"op_code":5,"worker_id":"' + b"x" * 100_000)
    run_trials(two, pruned(two), trials=4)
    run_trials(one, pruned(one), trials=5)
    assert [record.number for record in one.records()] == list(range(5))
