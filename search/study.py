"""The Optuna study of a search: one journal file, normalised named constraints, resumable."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import LOCK_FILE_SUFFIX
from optuna.trial import TrialState

from ..device_profiles import METRICS
from ..errors import PrivynetError, unknown
from .limits import Limits
from .space import Candidate

NAME = "privynet"

_GENERATIONS = 4
"""At least so many for ``nsga2``; the first is drawn at random."""

_SAMPLERS: dict[str, Callable[[int, int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed, trials: optuna.samplers.TPESampler(seed=seed, n_startup_trials=12),
    "random": lambda seed, trials: optuna.samplers.RandomSampler(seed=seed),
    "nsga2": lambda seed, trials: optuna.samplers.NSGAIISampler(
        seed=seed, population_size=population_size(trials)
    ),
    "gp": lambda seed, trials: optuna.samplers.GPSampler(seed=seed),
}
SAMPLERS = tuple(_SAMPLERS)

_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial. Scores and leakage documents are None where the trial ended before training."""

    number: int
    candidate: Candidate
    shape: tuple[int, int, int]
    metrics: dict[str, float]
    utility: dict[str, Any] | None
    leakage: dict[str, Any] | None
    violated: tuple[str, ...]
    violation: float
    """The sum of all normalised violations."""
    seconds: dict[str, float]

    @property
    def evaluated(self) -> bool:
        """Whether networks were trained for it."""
        return self.utility is not None

    @property
    def accuracy(self) -> float:
        """The head's score; 0 where none was trained."""
        return float(self.utility["value"]) if self.utility is not None else 0.0

    @property
    def feasible(self) -> bool:
        """Evaluated, and inside every limit."""
        return self.evaluated and not self.violated

    def document(self) -> dict[str, Any]:
        """The row of the trial table."""
        return {
            "number": self.number,
            "state": "evaluated" if self.evaluated else "pruned",
            **self.candidate.document(),
            "shape": list(self.shape),
            "metrics": self.metrics,
            "utility": self.utility,
            "feasible": self.feasible,
            "violated": list(self.violated),
            "seconds": self.seconds,
        }


class SearchStudy:
    """Asks for candidates and records what was found, in the run folder's journal.

    ``trials`` are planned in all. The run must be locked: what a killed search left half-written is repaired.

    Raises:
        InputError: an unknown sampler.
        PrivynetError: the journal cannot be read or written.
    """

    def __init__(self, journal: Path, limits: Limits, *, sampler: str, seed: int, trials: int) -> None:
        if sampler not in _SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        logging.getLogger("optuna").setLevel(logging.ERROR)
        self.limits = limits
        try:
            repair_journal(journal)
            storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
            self._study = optuna.create_study(
                storage=storage, study_name=NAME, directions=["maximize", "minimize"], load_if_exists=True
            )
            self._requeue_interrupted()
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise PrivynetError(f"the study in {journal} cannot be opened: {error}") from error
        # A resumed study must not draw again what it drew before.
        self._study.sampler = _SAMPLERS[sampler](
            seed + _SEED_STRIDE * len(self._study.get_trials(deepcopy=False)), trials
        )

    def ask(self) -> optuna.Trial:
        """A new trial, or the one that an interruption cost."""
        return self._study.ask()

    def fail(self, trial: optuna.Trial) -> None:
        """Record a trial that could not be judged, so that resuming does not run into it again."""
        self._study.tell(trial, state=TrialState.FAIL)

    def prune(
        self,
        trial: optuna.Trial,
        candidate: Candidate,
        shape: tuple[int, int, int],
        metrics: dict[str, float],
    ) -> TrialRecord:
        """Record a trial that breaks a limit before anything was trained."""
        self._describe(trial, candidate, shape, metrics)
        return self._record(self._study.tell(trial, state=TrialState.PRUNED))

    def repeat(self, trial: optuna.Trial, known: TrialRecord) -> TrialRecord:
        """Record a candidate that was asked for before: samplers repeat points in small spaces."""
        if known.utility is None or known.leakage is None:
            return self.prune(trial, known.candidate, known.shape, known.metrics)
        return self.finish(
            trial,
            known.candidate,
            known.shape,
            known.metrics,
            utility=known.utility,
            leakage=known.leakage,
            seconds={},
        )

    def finish(
        self,
        trial: optuna.Trial,
        candidate: Candidate,
        shape: tuple[int, int, int],
        metrics: dict[str, float],
        *,
        utility: dict[str, Any],
        leakage: dict[str, Any],
        seconds: dict[str, float],
    ) -> TrialRecord:
        """Record a trial whose networks were trained."""
        for name, value in (("utility", utility), ("leakage", leakage), ("seconds", seconds)):
            trial.set_user_attr(name, value)
        self._describe(trial, candidate, shape, metrics)
        return self._record(self._study.tell(trial, [utility["value"], metrics["r2"]]))

    def records(self) -> list[TrialRecord]:
        """All finished trials, by number."""
        done = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [self._record(trial) for trial in done]

    def _describe(
        self,
        trial: optuna.Trial,
        candidate: Candidate,
        shape: tuple[int, int, int],
        metrics: dict[str, float],
    ) -> None:
        trial.set_user_attr("candidate", candidate.document())
        trial.set_user_attr("shape", list(shape))
        trial.set_user_attr("metrics", metrics)
        violations = self.limits.violations(metrics)
        for metric in self.limits.by_metric:
            # Not known yet counts as met: every trial must state every constraint, and this one is
            # infeasible by another.
            trial.set_constraint(metric, violations.get(metric, 0.0))

    def _record(self, trial: optuna.trial.FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        metrics = attributes["metrics"]
        return TrialRecord(
            number=trial.number,
            candidate=Candidate(**attributes["candidate"]),
            shape=tuple(attributes["shape"]),
            metrics=metrics,
            utility=attributes.get("utility"),
            leakage=attributes.get("leakage"),
            violated=tuple(self.limits.violated(metrics)),
            violation=self.limits.total_violation(metrics),
            seconds=attributes.get("seconds", {}),
        )

    def _requeue_interrupted(self) -> None:
        """A trial that was running when the search was killed is run again, once."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params)


def population_size(trials: int) -> int:
    """Of ``nsga2``: Optuna's own 50, or less where that would leave no generation to learn from."""
    return max(2, min(50, trials // _GENERATIONS))


def repair_journal(journal: Path) -> None:
    """Cut off what a killed search, or a full disk, left behind the last complete line of Optuna's journal.

    Optuna would write on behind it and never read the file again. Its own lock, which nobody holds any more,
    would make it wait.
    """
    journal.with_name(journal.name + LOCK_FILE_SUFFIX).unlink(missing_ok=True)
    if not journal.exists():
        return
    lines = journal.read_bytes().splitlines(keepends=True)
    length = sum(map(len, lines))
    while lines and not _is_complete(lines[-1]):
        length -= len(lines.pop())
    if length < journal.stat().st_size:
        os.truncate(journal, length)


def _is_complete(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")


def privacy_metrics(leakage: dict[str, Any]) -> dict[str, float]:
    """The privacy metrics of a leakage document: the strongest attack's value of each measure."""
    return {
        metric: leakage["strongest"][metric]["value"]
        for metric in METRICS
        if METRICS[metric].privacy and metric in leakage["strongest"]
    }
