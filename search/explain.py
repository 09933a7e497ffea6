"""Why a trial went no further, in plain sentences, from the run's result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..artifacts import RunFolder, read_document
from ..device_profiles import METRICS
from ..errors import InputError
from .result import RESULT_KIND


def explain(run: Path, trial: int) -> dict[str, Any]:
    """``row`` (of the trial table), ``limits`` ({metric: {value, limit, use, source}}), ``sentences``.

    Raises:
        InputError: ``run`` has no result, or no such trial.
    """
    folder = RunFolder.open(run)
    if not folder.result.exists():
        raise InputError(f"the search of {run} has not finished", hint="the same command goes on with it")
    result = read_document(folder.result, RESULT_KIND)
    rows = {row["number"]: row for row in result["trial_table"]}
    if trial not in rows:
        numbers = f"{min(rows)} to {max(rows)}" if rows else "none"
        raise InputError(f"{run} has no finished trial {trial}", hint=f"there are: {numbers}")
    row = rows[trial]
    limits = {
        metric: {
            "value": row["metrics"].get(metric),
            "limit": entry["limit"],
            "use": _use(row["metrics"].get(metric), entry["limit"]),
            "source": entry["source"],
        }
        for metric, entry in result["limits"].items()
    }
    return {
        "seed": result["seed"],
        "inputs": result["inputs"],
        "trial": trial,
        "row": row,
        "limits": limits,
        "sentences": list(_sentences(row, limits, result)),
    }


def _use(value: float | None, limit: float) -> float | None:
    return value / limit if value is not None and limit else None


def _sentences(
    row: Mapping[str, Any], limits: Mapping[str, Mapping[str, Any]], result: Mapping[str, Any]
) -> Iterator[str]:
    strength = f" {row['strength']:g}" if row["strength"] else ""
    yield (
        f"trial {row['number']}: {result['backbones'][row['backbone']]} at {row['input_size']} pixels, "
        f"{row['cut']}, {row['channels']} channels by {row['policy']}{strength}"
    )
    if row["repeats"] is not None:
        yield f"the same candidate as trial {row['repeats']}, from which all is taken"
    for metric in row["violated"]:
        entry, written = limits[metric], METRICS[metric].written
        yield (
            f"rejected: {metric} {written(entry['value'])} is over the limit {written(entry['limit'])} "
            f"({entry['source']})" + _margin(row, metric)
        )
    yield _STAGES[row["stage"]]
    for name, estimate in row["estimates"].items():
        error = f" (90 %: error {estimate['error']:.3g})" if estimate["error"] else ""
        yield f"{name} {estimate['value']:.4g}{error}"
    certified = {one["trial"]: one for one in result.get("certifications") or ()}
    # The first trial of a candidate stands for its repeats.
    number = row["number"] if row["repeats"] is None else row["repeats"]
    if number == result.get("trial"):
        yield "chosen: the most accurate certified one inside every limit"
    elif number in certified:
        one = certified[number]
        found = f"certified: accuracy {one['utility']['value']:.4g}"
        over = ", ".join(one["violated"])
        yield f"{found}, over its limit then: {over}" if over else f"{found}, less than the chosen one's"
    elif row["feasible"]:
        yield "inside every limit, but not among the best that were certified"


def _margin(row: Mapping[str, Any], metric: str) -> str:
    estimate = row["estimates"].get(metric)
    if not estimate or not estimate["error"]:
        return ""
    return f": {estimate['value']:.4g} and an error of {estimate['error']:.3g}"


_STAGES = {
    "costs": "its costs alone ended it; nothing was computed of its features",
    "closed-form": "closed forms showed that it breaks a limit or cannot beat the best so far",
    "amortised": "the cut's amortised networks showed that it breaks a limit or cannot beat the best so far",
    "trained": "a head and an attacker were trained for it alone",
}
