"""A first look over the whole space by the closed forms, and where a search begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..device_profiles import DeviceProfile
from ..progress import SILENT, Progress
from .constraints import Limits, cost_metrics, least_costs
from .evaluation import ACCURACY, Judge
from .space import Candidate, Space, candidate_costs, channel_counts
from .space.candidates import strengths

POLICY = "fisher"
"""By which the survey chooses channels: it is the one that costs nothing and has no secret."""

OPENINGS = 12
"""Candidates that a search begins with: as many as the samplers would otherwise draw blindly."""

_LEAST_SHARE = 0.4
"""Of the limit of r2: trained attackers recover more than the closed form says, by up to about as much."""


@dataclass(frozen=True)
class Surveyed:
    """A candidate with its closed forms, ``accuracy`` and ``r2``."""

    candidate: Candidate
    proxies: Mapping[str, float]


def survey(
    judge: Judge, limits: Limits, profile: DeviceProfile, *, progress: Progress = SILENT
) -> list[Surveyed]:
    """Every cut with powers of two of its channels and with all of them, site by site, cut by cut.

    Cuts that break a limit of cost even with one channel are left out: nobody needs their features.
    """
    found = []
    for (backbone, input_size), splitter in judge.space.splitters.items():
        cuts = [
            cut
            for cut in splitter.cuts
            if not limits.violated(least_costs(judge.space, (backbone, input_size, cut.name), profile))
        ]
        judge.characterise((backbone, input_size), [cut.name for cut in cuts], progress=progress)
        with progress.task(f"closed forms of {splitter.backbone.name.architecture}", len(cuts)) as task:
            for cut in cuts:
                for count in surveyed_counts(cut.channels):
                    candidate = Candidate(backbone, input_size, cut.name, count, POLICY)
                    found.append(Surveyed(candidate, judge.closed_forms(candidate, progress=progress)))
                task.advance(note=cut.name)
    return found


def surveyed_counts(channels: int) -> list[int]:
    """Powers of two up to ``channels``, and that."""
    every = channel_counts(channels)
    return [count for count in every if count.bit_count() == 1 or count == channels]


def openings(
    surveyed: Sequence[Surveyed], space: Space, limits: Limits, profile: DeviceProfile
) -> list[dict[str, Any]]:
    """The parameters to try first: the most accurate candidates at rising levels of privacy loss up to the
    limit, those in the middle first, the policies in turn.

    They are where the answer is likely to be, and calibrate the closed forms there.
    """
    inside = [
        point
        for point in surveyed
        if not limits.violated(cost_metrics(candidate_costs(space, point.candidate), profile))
    ]
    if not inside:
        return []
    taken: list[Candidate] = []
    for level in _levels([point.proxies["r2"] for point in inside], limits):
        below = [point for point in inside if point.proxies["r2"] <= level and point.candidate not in taken]
        if below:
            taken.append(max(below, key=lambda point: point.proxies[ACCURACY]).candidate)
    found = []
    for place, candidate in enumerate(taken):
        parameters = space.parameters(_with_policy(candidate, space, limits, profile, turn=place))
        if parameters is not None:
            found.append(parameters)
    return found


def _levels(losses: Sequence[float], limits: Limits) -> list[float]:
    """Of r2, those in the middle first."""
    low, high = min(losses), max(losses)
    if "r2" in limits.by_metric:
        limit = limits.by_metric["r2"].limit
        low, high = max(low, min(_LEAST_SHARE * limit, high)), min(high, limit)
    levels = np.linspace(low, high, OPENINGS)
    return sorted(levels.tolist(), key=lambda level: abs(level - (low + high) / 2))


def _with_policy(
    candidate: Candidate, space: Space, limits: Limits, profile: DeviceProfile, *, turn: int
) -> Candidate:
    """The candidate by the policy whose turn it is, or the next one whose costs are inside the limits."""
    policies, choices = space.choices.policies, space.choices
    others = [
        replace(candidate, policy=policy, strength=_middle(policy), noise=choices.noises[0], bits=bits)
        for policy in (*policies[turn % len(policies) :], *policies[: turn % len(policies)])
        for bits in choices.bits
    ]
    inside = (
        other for other in others if not limits.violated(cost_metrics(candidate_costs(space, other), profile))
    )
    return next(inside, others[0])


def _middle(policy: str) -> float:
    every = strengths(policy)
    return every[len(every) // 2]
