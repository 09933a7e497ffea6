"""Taking another run's best candidates into a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ..artifacts import RunFolder, read_document
from ..errors import InputError
from .result import RESULT_KIND
from .space import Candidate, Space

MOST_TAKEN = 10


def warm_start(run: Path, space: Space, backbones: Sequence[str]) -> list[dict[str, Any]]:
    """The parameters to try first: those of the best candidates of a finished run that are in the space.

    The best are those that no other beats in both accuracy and privacy loss, the most accurate first.
    ``backbones``: what they are called here, by their place; a backbone is the same one by that name.

    Raises:
        InputError: ``run`` has no result, or none of its candidates is in the space.
    """
    result = read_document(RunFolder.open(run).result, RESULT_KIND)
    rows = [row for row in result["trial_table"] if row["state"] == "evaluated" and row["repeats"] is None]
    found: list[dict[str, Any]] = []
    for row in sorted(_front(rows), key=_accuracy, reverse=True):
        candidate = _here(row, result["backbones"], backbones)
        parameters = space.parameters(candidate) if candidate else None
        if parameters is not None and parameters not in found:
            found.append(parameters)
    if not found:
        raise InputError(
            f"no candidate of {run} is in this search's space",
            hint="give the same --backbone and --input-size, or leave out --warm-start",
        )
    return found[:MOST_TAKEN]


def _front(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [
        row
        for row in rows
        if not any(_accuracy(other) > _accuracy(row) and _loss(other) < _loss(row) for other in rows)
    ]


def _accuracy(row: Mapping[str, Any]) -> float:
    return float(row["estimates"]["accuracy"]["value"])


def _loss(row: Mapping[str, Any]) -> float:
    return float(row["estimates"]["r2"]["value"])


def _here(row: Mapping[str, Any], there: Sequence[str], here: Sequence[str]) -> Candidate | None:
    """The candidate of another run's row, its backbone by its place here."""
    name = there[row["backbone"]]
    if name not in here:
        return None
    candidate = Candidate(**{entry.name: row[entry.name] for entry in fields(Candidate)})
    return replace(candidate, backbone=list(here).index(name))
