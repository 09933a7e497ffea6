"""PrivyNet's characterisation figures: accuracy and privacy loss over cuts and numbers of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from .evaluation import ACCURACY, TrialRecord, closed_form_estimates, distinct
from .space import Space
from .survey import Surveyed, surveyed_counts

_LEAST_SPREAD = 0.25
"""Of what the closed forms say: what a calibration must leave."""


def overview(
    surveyed: Sequence[Surveyed], space: Space, records: Sequence[TrialRecord]
) -> list[dict[str, Any]]:
    """One entry for each backbone and input size: ``cuts``, ``counts`` (powers of two) and, for each of both,
    ``accuracy`` and ``r2`` by the closed forms, channels chosen by Fisher's discriminant; ``None`` where the
    cut has fewer channels. ``surveyed``: network by network, cut by cut.

    ``calibrated`` says whether the figures are read as trained networks would give them, which needs trained
    candidates of the backbone among ``records``.
    """
    trained = [record for record in distinct(records) if record.trained]
    entries = []
    for (backbone, input_size), of_network in groupby(surveyed, lambda point: point.candidate.network):
        by_cut = {
            cut: {point.candidate.channels: point for point in points}
            for cut, points in groupby(of_network, lambda point: point.candidate.cut)
        }
        splitter = space.splitters[backbone, input_size]
        counts = surveyed_counts(max(splitter.cut(cut).channels for cut in by_cut))
        figures = _figures([point for of_cut in by_cut.values() for point in of_cut.values()], trained)
        maps = {
            metric: [[figures.values.get((cut, count), {}).get(metric) for count in counts] for cut in by_cut]
            for metric in (ACCURACY, "r2")
        }
        entries.append(
            {
                "backbone": backbone,
                "input_size": input_size,
                "cuts": list(by_cut),
                "counts": counts,
                **maps,
                "calibrated": figures.calibrated,
            }
        )
    return entries


@dataclass(frozen=True)
class _Figures:
    """By cut and number of channels."""

    values: dict[tuple[str, int], dict[str, float]]
    calibrated: bool


def _figures(points: Sequence[Surveyed], trained: Sequence[TrialRecord]) -> _Figures:
    """All calibrated or none: figures of two kinds cannot be compared. None, too, where too little is known
    to tell one point from another: a calibration is then one figure for all."""
    raw, read = {}, {}
    for point in points:
        place = point.candidate.cut, point.candidate.channels
        raw[place] = dict(point.proxies)
        estimates = closed_form_estimates(point.candidate, point.proxies, trained, {})
        if estimates is not None:
            read[place] = {metric: estimate.value for metric, estimate in estimates.items()}
    calibrated = len(read) == len(raw) and all(_tells_apart(raw, read, metric) for metric in (ACCURACY, "r2"))
    return _Figures(read if calibrated else raw, calibrated)


def _tells_apart(
    raw: Mapping[Any, Mapping[str, float]], read: Mapping[Any, Mapping[str, float]], metric: str
) -> bool:
    spans = [
        max(values[metric] for values in figures.values())
        - min(values[metric] for values in figures.values())
        for figures in (raw, read)
    ]
    return spans[1] >= _LEAST_SPREAD * spans[0]
