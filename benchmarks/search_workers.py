"""Workers on one PostgreSQL: trials lost and run again when one is killed, and wall time against one worker.

    python benchmarks/search_workers.py --size small    # at most 15 minutes on two cores
    python benchmarks/search_workers.py --size full --storage postgresql://USER@HOST/DATABASE

Digits and the bundled backbone, so that next to nothing but the search itself is measured. One, two and four
workers run the same number of trials from the same seed, each in a study of its own; each again with one of
the workers killed (SIGKILL) while every worker is in mid-trial. Candidates are drawn at random: by
trial number they are the same for all, and so is the work.

A row says how many trials finished, how many of those finished before the kill are missing or changed
afterwards (lost), how many trials the kill cost and how often each was run again, and the seconds from the
first trial's start to the last one's end by the database's own record (start-up of a worker, some seconds of
imports, and the certification are not in it; the whole command's seconds stand beside it). More workers than
cores cannot be faster than cores. Without ``--storage`` a temporary PostgreSQL is started; Debian's package
``postgresql`` is enough. Finished rows are kept in ``results/search_workers-SIZE.json`` and not run again;
delete the file to do so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import psutil
from measured_rows import MeasuredRows
from optuna.trial import FrozenTrial, TrialState

from privynet.search.study import Storage

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "search"))

SEED = 0
SIZES = {
    "small": {"trials": 12, "budget": 5.0, "pairs": 300, "train-images": 400, "workers": [1, 2, 4]},
    "full": {"trials": 60, "budget": 30.0, "pairs": 1000, "train-images": 1000, "workers": [1, 2, 4, 8]},
}
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@contextmanager
def database(given: str | None) -> Iterator[str]:
    """The URL of a PostgreSQL: the one that was given, or a temporary one."""
    if given:
        yield given
        return
    from temporary_postgresql import TemporaryPostgresql

    with TemporaryPostgresql() as server:
        yield server.database()


def trials_of(storage: Storage, study: str) -> list[FrozenTrial]:
    """All trials of a study; none while it is not there yet."""
    try:
        return optuna.load_study(study_name=study, storage=storage.backend).get_trials()
    except KeyError:
        return []


def in_the_middle(trials: list[FrozenTrial], workers: int) -> bool:
    """Whether something is finished, and each worker is at work."""
    running = [trial for trial in trials if trial.state == TrialState.RUNNING and trial.params]
    return len(running) == workers and any(trial.state in DONE for trial in trials)


def measure(url: str, size: dict[str, Any], workers: int, *, kill: bool, folder: Path) -> dict[str, Any]:
    """Run one search, and read from the database what became of its trials."""
    study = f"workers-{workers}-{'killed' if kill else 'whole'}-{os.urandom(4).hex()}"
    numbers = {name: str(value) for name, value in size.items() if name != "workers"}
    command = [
        *(sys.executable, "-m", "privynet.toolkit.main", "search", "--data", "digits"),
        *("--device", "raspberry-pi-zero-2w", "--limit", "r2=0.99", "--sampler", "random", "--no-bench"),
        *("--certify", "1"),
        *(text for name, value in numbers.items() for text in (f"--{name}", value)),
        *("--seed", str(SEED), "--study", study, "--workers", str(workers), "--out", str(folder / study)),
        "--json",
    ]
    started = time.monotonic()
    storage = Storage.at(url)
    before: list[FrozenTrial] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PRIVYNET_STORAGE": url},
    ) as process:
        while kill and not before and process.poll() is None:
            time.sleep(0.1)
            if in_the_middle(trials_of(storage, study), workers):
                victims = psutil.Process(process.pid).children() or [psutil.Process(process.pid)]
                victims[0].kill()
                before = trials_of(storage, study)
        out, _ = process.communicate()
    if workers == 1 and kill:
        # There is nobody to take over but the same command, given once more.
        out = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PRIVYNET_STORAGE": url}
        ).stdout
    wall_s = time.monotonic() - started
    return {**_outcome(trials_of(storage, study), before), "command_s": round(wall_s, 1), **_trials(out)}


def _outcome(after: list[FrozenTrial], before: list[FrozenTrial]) -> dict[str, Any]:
    done = [trial for trial in after if trial.state in DONE]
    ends = [trial.datetime_complete for trial in done if trial.datetime_complete]
    starts = [trial.datetime_start for trial in done if trial.datetime_start]
    kept = [trial for trial in before if trial.state in DONE]
    broken = [trial for trial in after if trial.state == TrialState.FAIL and trial.params]
    return {
        "finished": len(done),
        "finished_before_the_kill": len(kept),
        "lost": sum(after[trial.number] != trial for trial in kept),
        "cut_off": len(broken),
        "run_again": [
            sum(trial.user_attrs.get("retry_of") == one.number for trial in done) for one in broken
        ],
        "trials_s": round((max(ends) - min(starts)).total_seconds(), 1),
    }


def _trials(out: str) -> dict[str, Any]:
    trials = json.loads(out)["trials"]
    return {name: trials[name] for name in ("total", "evaluated", "distinct")}


def show(rows: list[dict[str, Any]]) -> None:
    """The table, wall time against one worker beside it."""
    alone = next((row["trials_s"] for row in rows if row["workers"] == 1 and not row["killed"]), None)
    print("workers  killed  finished  lost  cut off  run again  trials s  against one  whole command s")
    for row in rows:
        gain = f"{alone / row['trials_s']:.2f}" if alone else "-"
        again = ",".join(map(str, row["run_again"])) or "-"
        print(
            f"{row['workers']:7}  {'yes' if row['killed'] else 'no':>6}  {row['finished']:8}  {row['lost']:4}"
            f"  {row['cut_off']:7}  {again:>9}  {row['trials_s']:8.1f}  {gain:>11}  {row['command_s']:15.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--storage", metavar="URL", help="a PostgreSQL database")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    measured = MeasuredRows("search_workers", arguments.size, {**size, "seed": SEED})
    with database(arguments.storage) as url, tempfile.TemporaryDirectory() as folder:
        for kill in (False, True):
            for workers in size["workers"]:
                key = {"workers": workers, "killed": kill}
                if not measured.has(key):
                    row = measure(url, size, workers, kill=kill, folder=Path(folder))
                    measured.add({**key, **row})
                    show(measured.rows[-1:])
    show(measured.rows)


if __name__ == "__main__":
    main()
