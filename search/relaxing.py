"""Which limits hold a better encoder back, and what a larger one would buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .constraints import Limits

RELAXED_BY = 0.2


@dataclass(frozen=True)
class Option:
    """A candidate that might have been chosen under other limits, as closely as it was looked at."""

    trial: int
    accuracy: float
    metrics: Mapping[str, float]


def relaxed(options: Sequence[Option], limits: Limits, *, now: float) -> dict[str, dict[str, Any]]:
    """For each limit, the best option inside it when it is 20 % larger, the others as they are.

    {metric: {limit, accuracy, gain, trial}}: gain is over ``now``, the accuracy of the chosen one; ``trial``
    is ``None`` where no option gains. Candidates that ended at their costs are no options: what they would
    reach is not known.
    """
    found: dict[str, dict[str, Any]] = {}
    for metric, limit in limits.by_metric.items():
        larger = replace(limit, limit=limit.limit + RELAXED_BY * abs(limit.limit))
        wider = Limits({**limits.by_metric, metric: larger})
        inside = [option for option in options if not wider.violated(option.metrics)]
        best = max(inside, key=lambda option: option.accuracy, default=None)
        gains = best is not None and best.accuracy > now
        found[metric] = {
            "limit": larger.limit,
            "accuracy": best.accuracy if best is not None and gains else now,
            "gain": best.accuracy - now if best is not None and gains else 0.0,
            "trial": best.trial if best is not None and gains else None,
        }
    return found


def binding(
    limits: Limits, metrics: Mapping[str, float], wider: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """The limits that hold a better encoder back, those first by which most is lost: a larger one would admit
    it, or the chosen one, whose ``metrics`` these are, uses nearly all of it."""
    gaining = [metric for metric in wider if wider[metric]["trial"] is not None]
    gaining.sort(key=lambda metric: -float(wider[metric]["gain"]))
    return [*gaining, *(metric for metric in limits.nearly_used(metrics) if metric not in gaining)]
