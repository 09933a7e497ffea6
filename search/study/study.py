"""The Optuna study of a search: normalised named constraints, resumable, open to many processes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from ...errors import unknown
from ..constraints import Limits
from ..evaluation import ACCURACY, Evaluation, TrialRecord
from ..space import Candidate
from .claims import FINISHED, Claims
from .storage import DEFAULT_STUDY, Storage

BEAT_S, GRACE_S = 10.0, 60.0

_OVER = (*FINISHED, TrialState.FAIL)
_CONSTRAINTS = "constraints"
_BEGINNER, _NOBODY = "beginner", "nobody any more"

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
UNGUIDED = frozenset({"random"})
"""Samplers that are asked for what is drawn blindly."""

_SEED_STRIDE = 1_000_003


class SearchStudy:
    """Asks for candidates and records what was found.

    Raises:
        InputError: an unknown sampler; a study with this name that is another search's.
        PrivynetError: the storage cannot be read or written.

    Args:
        storage: Where the study is kept.
        identity: What the search depends on; a study of another is refused.
        trials: So many are planned in all.
        name: The study's, in its storage.
        owner: Names this process in the storage; see ``Claims``.
        beat_s: How often a process shows that it lives, where others share the storage.
        grace_s: After so long without that, its trial is run again.
    """

    def __init__(
        self,
        storage: Storage,
        limits: Limits,
        *,
        identity: Mapping[str, Any],
        sampler: str,
        seed: int,
        trials: int,
        name: str = DEFAULT_STUDY,
        owner: str = "",
        beat_s: float = BEAT_S,
        grace_s: float = GRACE_S,
    ) -> None:
        if sampler not in _SAMPLERS:
            raise unknown("sampler", sampler, SAMPLERS)
        logging.getLogger("optuna").setLevel(logging.ERROR)
        self.storage, self.limits = storage, limits
        self._study = storage.open_study(name, identity)
        self._sampler, self._seed, self._planned = sampler, seed, trials
        self._study.sampler = self._sampler_of(0)
        # A Gaussian process would fit each mirrored constraint once more, and trust it twice.
        self._mirrored = sampler != "gp"
        beat = beat_s if storage.shared else None
        self.claims = Claims(self._study, owner=owner, beat_s=beat, grace_s=grace_s)
        self._records: dict[int, TrialRecord] = {}
        self._by_candidate: dict[Candidate, TrialRecord] = {}

    def ask(self, total: int) -> optuna.Trial | None:
        """A trial to run; ``None`` while as many as ``total`` are finished or running somewhere.

        What is drawn for a trial follows from the seed, the trial's number and what was finished before: no
        two processes draw the same, and a resumed study draws nothing again.
        """
        trial = self.claims.claim(total)
        if trial is not None:
            self._study.sampler = self._sampler_of(trial.number)
        return trial

    def may_begin(self, owner: str) -> bool:
        """Whether it is for ``owner`` to say what is tried first: nobody did, or it was interrupted there.

        Of several that share the storage only one is told so, but for those that ask in the very same moment.
        """
        beginner = self._study.user_attrs.get(_BEGINNER)
        if beginner is None and not self._study.get_trials(deepcopy=False):
            self._study.set_user_attr(_BEGINNER, owner)
            return True
        return bool(beginner == owner)

    def has_begun(self) -> None:
        """What is tried first is known."""
        self._study.set_user_attr(_BEGINNER, _NOBODY)

    def enqueue(self, every: Sequence[Mapping[str, Any]]) -> None:
        """Have these parameters tried before any others, each once in the study's life."""
        for parameters in every:
            self._study.enqueue_trial(dict(parameters), skip_if_exists=True)

    def fail(self, trial: optuna.Trial) -> None:
        """Record a trial that could not be judged, so that resuming does not run into it again."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self._tell(trial, state=TrialState.FAIL)

    def prune(
        self,
        trial: optuna.Trial,
        candidate: Candidate,
        shape: tuple[int, int, int],
        metrics: Mapping[str, float],
    ) -> TrialRecord:
        """Record a trial that breaks a limit before anything was trained."""
        self._describe(trial, candidate, shape, metrics)
        return self._record(self._tell(trial, state=TrialState.PRUNED))

    def repeat(self, trial: optuna.Trial, known: TrialRecord) -> TrialRecord:
        """Record a candidate that was asked for before: samplers repeat points in small spaces."""
        trial.set_user_attr("repeats", known.number if known.repeats is None else known.repeats)
        if known.evaluation is None:
            return self.prune(trial, known.candidate, known.shape, known.metrics)
        return self.finish(trial, known.candidate, known.shape, known.metrics, known.evaluation)

    def finish(
        self,
        trial: optuna.Trial,
        candidate: Candidate,
        shape: tuple[int, int, int],
        metrics: Mapping[str, float],
        evaluation: Evaluation,
    ) -> TrialRecord:
        """Record a trial of which more than the costs is known."""
        trial.set_user_attr("evaluation", evaluation.document())
        self._describe(trial, candidate, shape, metrics)
        estimates = evaluation.estimates
        return self._record(self._tell(trial, values=[estimates[ACCURACY].value, estimates["r2"].value]))

    def records(self) -> list[TrialRecord]:
        """All finished trials, by number."""
        for trial in self._study.get_trials(deepcopy=False, states=FINISHED):
            if trial.number not in self._records:
                record = self._record(trial)
                self._records[trial.number] = self._by_candidate[record.candidate] = record
        return [self._records[number] for number in sorted(self._records)]

    def known(self) -> Mapping[Candidate, TrialRecord]:
        """The finished trials by their candidate, whoever ran them."""
        self.records()
        return self._by_candidate

    def _sampler_of(self, trial: int) -> optuna.samplers.BaseSampler:
        return _SAMPLERS[self._sampler]((self._seed + _SEED_STRIDE * trial) % 2**32, self._planned)

    def _tell(
        self, trial: optuna.Trial, *, state: TrialState | None = None, values: Sequence[float] | None = None
    ) -> optuna.trial.FrozenTrial:
        try:
            return self._study.tell(trial, values, state)
        except ValueError:
            if trial.number in {t.number for t in self._study.get_trials(deepcopy=False, states=_OVER)}:
                raise UpdateFinishedTrialError from None
            raise

    def _describe(
        self,
        trial: optuna.Trial,
        candidate: Candidate,
        shape: tuple[int, int, int],
        metrics: Mapping[str, float],
    ) -> None:
        trial.set_user_attr("candidate", candidate.document())
        trial.set_user_attr("shape", list(shape))
        trial.set_user_attr("metrics", dict(metrics))
        known = self.limits.violations(metrics)
        # Not known yet counts as met: every trial must state every constraint, and this one is
        # infeasible by another.
        violations = {metric: known.get(metric, 0.0) for metric in self.limits.by_metric}
        for metric, violation in violations.items():
            trial.set_constraint(metric, violation)
        trial.set_user_attr(_CONSTRAINTS, violations)
        if self._mirrored:
            # optuna-dashboard (0.21) knows only this list. Samplers add it to the named ones, for every
            # trial alike, so that none moves before another.
            trial.storage.set_trial_system_attr(trial._trial_id, _CONSTRAINTS, list(violations.values()))

    def _record(self, trial: optuna.trial.FrozenTrial) -> TrialRecord:
        attributes = trial.user_attrs
        metrics, evaluation = attributes["metrics"], attributes.get("evaluation")
        return TrialRecord(
            number=trial.number,
            candidate=Candidate(**attributes["candidate"]),
            shape=tuple(attributes["shape"]),
            metrics=metrics,
            violated=tuple(self.limits.violated(metrics)),
            violation=self.limits.total_violation(metrics),
            evaluation=Evaluation.from_document(evaluation) if evaluation else None,
            repeats=attributes.get("repeats"),
        )


def population_size(trials: int) -> int:
    """Of ``nsga2``: Optuna's own 50, or less where that would leave no generation to learn from."""
    return max(2, min(50, trials // _GENERATIONS))
