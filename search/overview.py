"""PrivyNet's characterisation figures: accuracy and privacy loss over cuts and numbers of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..device_profiles import DeviceProfile
from ..progress import SILENT, Progress
from .constraints import Limits, least_costs
from .evaluation import ACCURACY, Judge, TrialRecord, closed_form_estimates, distinct
from .space import Candidate, channel_counts

POLICY = "fisher"


def overview(
    judge: Judge,
    records: Sequence[TrialRecord],
    limits: Limits,
    profile: DeviceProfile,
    *,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """One entry for each backbone and input size: ``cuts``, ``counts`` (powers of two) and, for each of both,
    ``accuracy`` and ``r2`` by the closed forms, channels chosen by Fisher's discriminant; ``None`` where the
    cut has fewer channels. Cuts that break a limit of cost even with one channel are left out: nobody needs
    their features.

    ``calibrated`` says whether the figures are read as trained networks would give them, which needs trained
    candidates of the backbone among ``records``.
    """
    entries = []
    trained = [record for record in distinct(records) if record.trained]
    for (backbone, input_size), splitter in judge.space.splitters.items():
        cuts = [
            cut
            for cut in splitter.cuts
            if not limits.violated(least_costs(judge.space, (backbone, input_size, cut.name), profile))
        ]
        if not cuts:
            continue
        every = channel_counts(max(cut.channels for cut in cuts))
        counts = [count for count in every if count.bit_count() == 1 or count == every[-1]]
        maps: dict[str, list[list[float | None]]] = {ACCURACY: [], "r2": []}
        calibrated = True
        with progress.task("overview", len(cuts)) as task:
            for cut in cuts:
                rows: dict[str, list[float | None]] = {name: [] for name in maps}
                for count in counts:
                    values: dict[str, float] = {}
                    if count <= cut.channels:
                        candidate = Candidate(backbone, input_size, cut.name, count, POLICY)
                        sending = judge.sending(candidate, progress=progress)
                        values = judge.closed_forms(candidate, sending, progress=progress)
                        estimates = closed_form_estimates(candidate, values, trained, {})
                        calibrated = calibrated and estimates is not None
                        if estimates is not None:
                            values = {name: estimates[name].value for name in maps}
                    for name, row in rows.items():
                        row.append(values.get(name))
                for name, row in rows.items():
                    maps[name].append(row)
                task.advance(note=cut.name)
        entries.append(
            {
                "backbone": backbone,
                "input_size": input_size,
                "cuts": [cut.name for cut in cuts],
                "counts": counts,
                **maps,
                "calibrated": calibrated,
            }
        )
    return entries
