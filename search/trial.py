"""One trial: costs on shapes alone first, then as close a look as the candidate is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..device_profiles import DeviceProfile
from ..progress import SILENT, Progress
from .constraints import cost_metrics
from .evaluation import Evaluator, Judge, TrialRecord
from .space import POLICIES, candidate_costs
from .study import SearchStudy

if TYPE_CHECKING:
    import optuna


def run_trial(
    trial: optuna.Trial,
    study: SearchStudy,
    judge: Judge,
    evaluator: Evaluator,
    profile: DeviceProfile,
    *,
    progress: Progress = SILENT,
) -> TrialRecord:
    """Judge what the study's sampler suggests, as far as it is worth it, and record it.

    What was judged before, by whatever process, is taken from there.
    """
    space, limits = judge.space, study.limits
    candidate = space.suggest(trial)
    shape = space.shape(candidate)
    known = study.known().get(candidate)
    if known is not None:
        return study.repeat(trial, known)
    # Costs depend on how many channels are kept and, next to branches, a little on which: the first ones
    # stand for all until the policy has chosen.
    metrics = cost_metrics(candidate_costs(space, candidate), profile)
    if limits.violated(metrics):
        return study.prune(trial, candidate, shape, metrics)
    if not POLICIES[candidate.policy].mixes:
        selection = judge.sending(candidate, progress=progress).selection
        assert isinstance(selection, tuple)
        exact = cost_metrics(candidate_costs(space, candidate, selection), profile)
        # What a secret selection costs exactly would tell from which branches its channels come.
        metrics = metrics if POLICIES[candidate.policy].secret else exact
        if limits.violated(exact):
            return study.prune(trial, candidate, shape, exact)
    evaluation = evaluator.evaluate(candidate, study.records(), progress=progress)
    if POLICIES[candidate.policy].secret:
        evaluation = evaluation.without_secrets()
    return study.finish(trial, candidate, shape, {**metrics, **evaluation.privacy_metrics()}, evaluation)
