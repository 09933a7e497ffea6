"""A search's result as a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..data import DataSet
from ..device_profiles import DeviceProfile
from .certification import Certified, Outcome
from .constraints import Limits
from .evaluation import TrialRecord, distinct
from .relaxing import Option, binding, relaxed

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
    seconds: Mapping[str, float],
    seed: int,
    inputs: Mapping[str, Any],
    overview: Sequence[Mapping[str, Any]],
    certify: int,
) -> dict[str, Any]:
    """The keys of ``privynet search --json``, and what the report shows besides.

    ``seconds``: of the whole and of its parts. ``runners_up`` are candidates that were certified inside every
    limit, then others that are estimated to be.
    """
    candidates = distinct(records)
    certified = {one.record.candidate: one for one in outcome.certified}
    chosen = outcome.chosen
    stages = [record.stage for record in records if record.repeats is None]
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
            "distinct": len(candidates),
            "feasible": sum(record.feasible for record in records),
            "certified": sum(not one.violated for one in outcome.certified),
            "rejected": sum(bool(one.violated) for one in outcome.certified),
            "by_stage": {
                stage: stages.count(stage) for stage in ("costs", "closed-form", "amortised", "trained")
            },
        },
        "trial_table": [record.document() for record in records],
        "certify": certify,
        "certifications": [one.document() for one in outcome.certified],
        "overview": list(overview),
        "wall_s": {name: round(value, 1) for name, value in seconds.items()},
    }
    if chosen is None:
        nearest = _nearest(candidates, certified)
        return document | {
            "encoder": None,
            "utility": None,
            "privacy_loss": None,
            "limits": limits.document(),
            "binding": _always_violated(nearest),
            "relaxed": {},
            "runners_up": [],
            "nearest": nearest[:_NEAREST],
        }
    leakage = chosen.leakage
    wider = relaxed(_options(candidates, certified), limits, now=chosen.utility.value)
    binds = binding(limits, chosen.metrics, wider)
    return document | {
        "encoder": chosen.encoder.spec.document(),
        "encoder_digest": chosen.encoder.digest,
        "trial": chosen.record.number,
        "utility": {**chosen.utility.document(), "heads": list(chosen.heads), "metric": METRIC},
        "privacy_loss": leakage["strongest"],
        "blind": leakage["blind"],
        "label_only": leakage["label_only"],
        "attacks": leakage["attacks"],
        "limits": limits.document(chosen.metrics),
        "metrics": dict(chosen.metrics),
        "predicted_ms": asdict(chosen.latency),
        "binding": binds,
        "relaxed": {metric: wider[metric] for metric in binds},
        "runners_up": _runners_up(candidates, certified, chosen),
        "nearest": None,
    }


def _options(candidates: Sequence[TrialRecord], certified: Mapping[Any, Certified]) -> list[Option]:
    """What was certified counts as it was found then."""
    options = []
    for record in candidates:
        one = certified.get(record.candidate)
        if one is not None:
            options.append(Option(record.number, one.utility.value, one.metrics))
        elif record.evaluated:
            options.append(Option(record.number, record.accuracy, record.metrics))
    return options


def _runners_up(
    candidates: Sequence[TrialRecord], certified: Mapping[Any, Certified], chosen: Certified
) -> list[dict[str, Any]]:
    inside = sorted(
        (one for one in certified.values() if not one.violated and one is not chosen),
        key=lambda one: -one.utility.value,
    )
    others = sorted(
        (record for record in candidates if record.feasible and record.candidate not in certified),
        key=lambda record: -record.accuracy,
    )
    return [*(_as_found(one) for one in inside), *(record.document() for record in others)][:_RUNNERS_UP]


def _nearest(candidates: Sequence[TrialRecord], certified: Mapping[Any, Certified]) -> list[dict[str, Any]]:
    """What breaks a limit, the smallest violation first; what was certified counts as it was found then."""
    rows = []
    for record in candidates:
        one = certified.get(record.candidate)
        if one is not None:
            rows.append((one.violation, record.number, _as_found(one)))
        elif not record.feasible:
            rows.append((record.violation, record.number, record.document()))
    return [row for _, _, row in sorted(rows, key=lambda row: row[:2])]


def _as_found(one: Certified) -> dict[str, Any]:
    """The row of a trial, with what its certification found."""
    return {
        **one.record.document(),
        "stage": "certified",
        "metrics": dict(one.metrics),
        "utility": one.utility.document(),
        "feasible": not one.violated,
        "violated": list(one.violated),
    }


def _always_violated(nearest: Sequence[Mapping[str, Any]]) -> list[str]:
    """The limits that every one of the nearest misses breaks, or else those that the nearest breaks."""
    if not nearest:
        return []
    first = set(nearest[0]["violated"])
    shared = first.intersection(*(row["violated"] for row in nearest[:_NEAREST]))
    return sorted(shared or first)
