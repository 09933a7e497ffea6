"""The loop over trials: until the study has its total, whoever ran them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from ...progress import SILENT, Progress, Task
from ..evaluation import TrialRecord
from .study import SearchStudy

RunTrial = Callable[[optuna.Trial], TrialRecord]
"""Judges a trial and records it in the study."""

POLL_S = 0.5


def run_trials(
    study: SearchStudy,
    run_trial: RunTrial,
    *,
    trials: int,
    deadline: float | None = None,
    progress: Progress = SILENT,
) -> None:
    """Run trials until ``trials`` of the study are finished, or until ``deadline`` (of ``time.time``).

    Those of other processes count as well. No trial is started while as many are finished or running; where
    one of the running ones is lost, it is run again here. So there are never more than asked for, but for
    those that took turns in the very same moment. An exception of ``run_trial`` goes through, its trial is
    recorded as failed; after an interruption it waits to be run again.
    """
    with study.storage.working(), progress.task("trials", trials) as task:
        shown = ShownTrials(task, trials)
        while True:
            study.claims.retry_abandoned()
            if shown.update(study.records()) >= trials or (deadline is not None and time.time() >= deadline):
                return
            trial = study.ask(trials)
            if trial is None:
                time.sleep(POLL_S)
                continue
            _run(study, trial, run_trial)


def _run(study: SearchStudy, trial: optuna.Trial, run_trial: RunTrial) -> None:
    try:
        with study.claims.beating(trial):
            run_trial(trial)
    except UpdateFinishedTrialError:
        pass  # this process was taken for dead, and somebody else runs the trial
    except Exception:
        # Left running, it would be the first thing that every resumed search runs into again.
        study.fail(trial)
        raise
    except BaseException:
        study.claims.give_back(trial)
        raise


class ShownTrials:
    """The bar of the trials, with the best so far."""

    def __init__(self, task: Task, trials: int) -> None:
        self._task, self._trials = task, trials
        self._done = -1

    def update(self, records: Iterable[TrialRecord]) -> int:
        """Show what is finished by now, and return how many trials that are."""
        records = list(records)
        if len(records) > self._done:
            before, now = max(0, min(self._done, self._trials)), min(len(records), self._trials)
            self._task.advance(now - before, note=_best_note(records))
            self._done = len(records)
        return len(records)


def _best_note(records: Iterable[TrialRecord]) -> str:
    feasible = [record for record in records if record.feasible]
    if not feasible:
        return "nothing feasible yet"
    best = max(feasible, key=lambda record: record.accuracy)
    return f"best {best.accuracy:.1%}, r2 {best.estimates['r2'].value:.2f}"
