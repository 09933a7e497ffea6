"""Which process runs which trial, and what becomes of a trial whose process is gone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_TAKEN = (*FINISHED, TrialState.RUNNING)
"""Failed trials, and those that wait, do not count."""

_OWNER, _BEAT, _DEATHS = "owner", "beat", "deaths"
MOST_DEATHS = 2
"""A trial with which so many processes died is not tried again."""


class Claims:
    """The running trials of a study, as one process sees them.

    Optuna's own heartbeats come with ``Study.optimize`` and a database only. Here each process writes a
    number into its running trial that grows; who has not seen it grow for ``grace_s`` of its own clock takes
    the process for dead, whatever the clocks of other machines say.

    Args:
        owner: Names this process; what is before the last dot it shares with the others of its run.
        beat_s: How often a heart beats, in seconds; ``None`` where the processes are watched otherwise.
    """

    def __init__(
        self, study: optuna.Study, *, owner: str, beat_s: float | None = None, grace_s: float = 60.0
    ) -> None:
        self._study, self._owner = study, owner
        self._beat_s, self._grace_s = beat_s, grace_s
        self._seen: dict[int, tuple[Any, float]] = {}

    def claim(self, total: int) -> optuna.Trial | None:
        """A trial to run: one that waits, or else a new one; ``None`` when ``total`` are finished or running.

        Of processes that ask at the same moment, those that come too late give theirs back.
        """
        if len(self._trials(_TAKEN)) >= total:
            return None
        trial = self._study.ask()
        trial.set_user_attr(_OWNER, self._owner)
        if sum(other.number < trial.number for other in self._trials(_TAKEN)) >= total:
            self.give_back(trial)
            return None
        return trial

    @contextmanager
    def beating(self, trial: optuna.Trial) -> Iterator[None]:
        """Show for as long as the context lasts that the trial's process lives."""
        if self._beat_s is None:
            yield
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(trial, ended, self._beat_s), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def give_back(self, trial: optuna.Trial) -> None:
        """Let somebody else run a trial that this process will not."""
        for running in self._trials([TrialState.RUNNING]):
            if running.number == trial.number:
                self._retry(running, died=False)

    def retry_of(self, owner: str, *, died: bool) -> None:
        """Have the trials run again that ``owner``, or the run that it names, left running."""
        for trial in self._trials([TrialState.RUNNING]):
            left_by = trial.user_attrs.get(_OWNER, "")
            if owner in ("", left_by, left_by.rpartition(".")[0]):
                self._retry(trial, died=died)

    def retry_abandoned(self) -> None:
        """Have the trials run again whose process has not shown for ``grace_s`` that it lives."""
        now = time.monotonic()
        running = {trial.number: trial for trial in self._trials([TrialState.RUNNING])}
        self._seen = {number: seen for number, seen in self._seen.items() if number in running}
        for number, trial in running.items():
            owner = trial.user_attrs.get(_OWNER)
            if owner == self._owner or (owner is not None and self._beat_s is None):
                continue
            beat = trial.user_attrs.get(_BEAT)
            if number not in self._seen or self._seen[number][0] != beat:
                self._seen[number] = beat, now
            elif now - self._seen[number][1] > self._grace_s:
                self._retry(trial, died=True)

    def _trials(self, states: Iterable[TrialState]) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=tuple(states))

    def _retry(self, trial: FrozenTrial, *, died: bool) -> None:
        """Of several processes that find the same trial, the one that ends it has it run again."""
        try:
            self._study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return
        parameters = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        deaths = trial.user_attrs.get(_DEATHS, 0) + died
        if parameters and deaths < MOST_DEATHS:
            self._study.enqueue_trial(parameters, user_attrs={_DEATHS: deaths, "retry_of": trial.number})

    def _beat(self, trial: optuna.Trial, ended: threading.Event, every_s: float) -> None:
        beats = 0
        while True:
            beats += 1
            # A beat that is lost is no reason to give up a trial; a trial that is over is not written to.
            with contextlib.suppress(Exception):
                trial.set_user_attr(_BEAT, beats)
            if ended.wait(every_s):
                return
