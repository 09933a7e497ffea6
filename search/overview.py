"""PrivyNet's characterisation figures: accuracy and privacy loss over cuts and numbers of channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .evaluation import ACCURACY, TrialRecord, closed_form_estimates, distinct
from .space import Space
from .survey import Surveyed, surveyed_counts


def overview(
    surveyed: Sequence[Surveyed], space: Space, records: Sequence[TrialRecord]
) -> list[dict[str, Any]]:
    """One entry for each backbone and input size: ``cuts``, ``counts`` (powers of two) and, for each of both,
    ``accuracy`` and ``r2`` by the closed forms, channels chosen by Fisher's discriminant; ``None`` where the
    cut has fewer channels. ``surveyed``: site by site, cut by cut.

    ``calibrated`` says whether the figures are read as trained networks would give them, which needs trained
    candidates of the backbone among ``records``.
    """
    trained = [record for record in distinct(records) if record.trained]
    entries = []
    for (backbone, input_size), of_site in groupby(surveyed, lambda point: point.candidate.site[:2]):
        by_cut = {
            cut: {point.candidate.channels: point for point in points}
            for cut, points in groupby(of_site, lambda point: point.candidate.cut)
        }
        splitter = space.splitters[backbone, input_size]
        counts = surveyed_counts(max(splitter.cut(cut).channels for cut in by_cut))
        maps: dict[str, list[list[float | None]]] = {ACCURACY: [], "r2": []}
        calibrated = True
        for points in by_cut.values():
            rows: dict[str, list[float | None]] = {name: [] for name in maps}
            for count in counts:
                values: dict[str, float] = {}
                if count in points:
                    values = dict(points[count].proxies)
                    estimates = closed_form_estimates(points[count].candidate, values, trained, {})
                    calibrated = calibrated and estimates is not None
                    if estimates is not None:
                        values = {name: estimates[name].value for name in maps}
                for name, row in rows.items():
                    row.append(values.get(name))
            for name, row in rows.items():
                maps[name].append(row)
        entries.append(
            {
                "backbone": backbone,
                "input_size": input_size,
                "cuts": list(by_cut),
                "counts": counts,
                **maps,
                "calibrated": calibrated,
            }
        )
    return entries
