"""What a larger limit would buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .constraints import Limits
from .evaluation import TrialRecord

RELAXED_BY = 0.2


def relaxed(
    records: Sequence[TrialRecord], limits: Limits, binding: Sequence[str], *, now: float
) -> dict[str, Any]:
    """For each binding limit, the best candidate inside it when it is 20 % larger, the others as they are.

    {metric: {limit, accuracy, gain, trial}}: accuracy is an estimate, gain what it is over ``now``, the
    accuracy of the chosen one; ``trial`` is ``None`` where none of the evaluated candidates gains.
    ``records``: those that were not certified. Candidates that ended at their costs say nothing here: what
    they would reach is not known.
    """
    evaluated = [record for record in records if record.evaluated]
    found: dict[str, Any] = {}
    for metric in binding:
        limit = limits.by_metric[metric]
        larger = replace(limit, limit=(1 + RELAXED_BY) * limit.limit)
        wider = Limits({**limits.by_metric, metric: larger})
        inside = [record for record in evaluated if not wider.violated(record.metrics)]
        best = max(inside, key=lambda record: record.accuracy, default=None)
        gains = best is not None and best.accuracy > now
        found[metric] = {
            "limit": larger.limit,
            "accuracy": best.accuracy if best is not None and gains else now,
            "gain": best.accuracy - now if best is not None and gains else 0.0,
            "trial": best.number if best is not None and gains else None,
        }
    return found
