"""What a search tries first: the best of the survey, so that the trials begin where the answer is likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..device_profiles import DeviceProfile
from .constraints import Limits, cost_metrics
from .evaluation import ACCURACY
from .space import Candidate, Space, candidate_costs
from .space.candidates import strengths
from .survey import Surveyed

MOST = 12
"""As many as the samplers would otherwise draw blindly."""

_LEAST_SHARE = 0.4
"""Of the limit of r2: trained attackers recover more than the closed form says, by up to about as much."""
_BY_CHANCE = 3
"""Each so many-th is any point of its level: those that look best are those that luck made look so, too, and
a calibration on them alone would take that for granted."""


def initial_trials(
    surveyed: Sequence[Surveyed], space: Space, limits: Limits, profile: DeviceProfile, *, seed: int
) -> list[Candidate]:
    """What to try first: the most accurate candidates at rising levels of privacy loss up to the
    limit, those in the middle first, the policies in turn; some of them by chance."""
    rng = np.random.default_rng(seed)
    inside = [point for point in surveyed if _affordable(point.candidate, space, limits, profile)]
    taken: list[Candidate] = []
    for place, level in enumerate(_levels([point.proxies["r2"] for point in inside], limits)):
        below = [point for point in inside if point.proxies["r2"] <= level and point.candidate not in taken]
        if not below:
            continue
        if place % _BY_CHANCE == _BY_CHANCE - 1:
            taken.append(below[rng.integers(len(below))].candidate)
        else:
            taken.append(max(below, key=lambda point: point.proxies[ACCURACY]).candidate)
    return [
        _with_policy(candidate, space, limits, profile, turn=turn) for turn, candidate in enumerate(taken)
    ]


def _affordable(candidate: Candidate, space: Space, limits: Limits, profile: DeviceProfile) -> bool:
    """With the fewest bits that may be tried."""
    fewest = replace(candidate, bits=min(space.choices.bits))
    return not limits.violated(cost_metrics(candidate_costs(space, fewest), profile))


def _levels(losses: Sequence[float], limits: Limits) -> list[float]:
    """Of r2, those in the middle first."""
    if not losses:
        return []
    low, high = min(losses), max(losses)
    if "r2" in limits.by_metric:
        limit = limits.by_metric["r2"].limit
        low, high = max(low, min(_LEAST_SHARE * limit, high)), min(high, limit)
    levels = np.linspace(low, high, MOST)
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
