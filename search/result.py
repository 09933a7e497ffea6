"""A search's result as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..data import DataSet
from ..device_profiles import DeviceProfile
from .certification import Outcome
from .limits import Limits
from .study import TrialRecord

RESULT_KIND = "search-result"

METRIC = "top-1 accuracy"

_RUNNERS_UP = 5
_NEAREST = 5


def result_document(
    records: Sequence[TrialRecord],
    limits: Limits,
    *,
    outcome: Outcome,
    device: DeviceProfile,
    backbones: Sequence[str],
    data: DataSet,
    seconds: float,
    seed: int,
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    """The keys of ``privynet search --json``, and what the report shows besides."""
    chosen, rejected = outcome.chosen, {record.candidate: record for record in outcome.rejected}
    distinct = list({record.candidate: record for record in records}.values())
    # What was looked at more closely counts as it was found then.
    judged = [rejected.get(record.candidate, record) for record in distinct]
    feasible = sorted((r for r in judged if r.feasible), key=lambda record: -record.accuracy)
    nearest = sorted(
        (r for r in judged if not r.feasible), key=lambda record: (record.violation, record.number)
    )
    document: dict[str, Any] = {
        "seed": seed,
        "inputs": dict(inputs),
        "device": {"name": device.name, "title": device.title},
        "backbones": list(backbones),
        "data": {
            "name": data.name,
            "digest": data.digest,
            "classes": len(data.classes),
            "reference_size": data.reference_size,
        },
        "trials": {
            "total": len(records),
            "pruned": sum(not record.evaluated for record in records),
            "evaluated": sum(record.evaluated for record in records),
            "distinct": len(distinct),
            "feasible": sum(record.feasible for record in records),
            "certified": 0 if chosen is None else 1,
            "rejected": len(rejected),
        },
        "trial_table": [record.document() for record in records],
        "wall_s": round(seconds, 1),
    }
    if chosen is None:
        return document | {
            "encoder": None,
            "utility": None,
            "privacy_loss": None,
            "limits": limits.document(),
            "binding": _always_violated(nearest),
            "runners_up": [],
            "nearest": [record.document() for record in nearest[:_NEAREST]],
        }
    leakage = chosen.leakage
    return document | {
        "encoder": chosen.encoder.spec.document(),
        "encoder_digest": chosen.encoder.digest,
        "trial": chosen.record.number,
        "utility": {**(chosen.record.utility or {}), "metric": METRIC},
        "privacy_loss": chosen.strongest,
        "blind": leakage["blind"],
        "label_only": leakage["label_only"],
        "attacks": leakage["attacks"],
        "limits": limits.document(chosen.metrics),
        "metrics": chosen.metrics,
        "predicted_ms": asdict(chosen.latency),
        "binding": limits.binding(chosen.metrics),
        "runners_up": [
            record.document() for record in feasible if record.candidate != chosen.record.candidate
        ][:_RUNNERS_UP],
        "nearest": None,
    }


def _always_violated(nearest: Sequence[TrialRecord]) -> list[str]:
    """The limits that every one of the nearest misses breaks, or else those that the nearest breaks."""
    if not nearest:
        return []
    shared = set(nearest[0].violated).intersection(*(record.violated for record in nearest[:_NEAREST]))
    return sorted(shared or nearest[0].violated)
