"""One trial: costs on shapes alone first, then as close a look as the candidate is worth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..artifacts import Payload
from ..device_profiles import DeviceProfile
from ..encoders import Costs
from ..progress import SILENT, Progress
from .evaluation import Evaluator
from .judge import Judge
from .limits import cost_metrics
from .policies import POLICIES
from .records import TrialRecord
from .space import Candidate, Space
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
    started = time.perf_counter()
    sending = judge.sending(candidate, progress=progress)
    selected = round(time.perf_counter() - started, 3)
    if isinstance(sending.selection, tuple):
        metrics = cost_metrics(candidate_costs(space, candidate, sending.selection), profile)
        if limits.violated(metrics):
            return study.prune(trial, candidate, shape, metrics)
    evaluation = evaluator.evaluate(candidate, sending, study.records(), progress=progress)
    evaluation = replace(evaluation, seconds={"selection": selected, **evaluation.seconds})
    if POLICIES[candidate.policy].secret:
        evaluation = evaluation.without_secrets()
    return study.finish(trial, candidate, shape, {**metrics, **evaluation.privacy_metrics()}, evaluation)


def candidate_costs(space: Space, candidate: Candidate, channels: Sequence[int] | None = None) -> Costs:
    """What the candidate's encoder costs, on shapes alone; ``channels``: those kept (default: the first)."""
    splitter = space.splitters[candidate.backbone, candidate.input_size]
    every = splitter.cut(candidate.cut).channels
    if POLICIES[candidate.policy].mixes and candidate.channels < every:
        costs = splitter.costs(candidate.cut, range(every), outputs=candidate.channels)
    else:
        costs = splitter.costs(candidate.cut, channels or range(candidate.channels))
    payload = Payload(bits=candidate.bits)
    return replace(costs, payload_bytes=payload.bytes(space.shape(candidate)))
