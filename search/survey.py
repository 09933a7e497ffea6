"""A look over the whole space by the closed forms, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..device_profiles import DeviceProfile
from ..progress import SILENT, Progress
from .constraints import Limits, least_costs
from .evaluation import Judge
from .space import Candidate, channel_counts

POLICY = "fisher"
"""By which the survey chooses channels: it is the one that costs nothing and has no secret."""


@dataclass(frozen=True)
class Surveyed:
    """A candidate with its closed forms, ``accuracy`` and ``r2``."""

    candidate: Candidate
    proxies: Mapping[str, float]


def survey(
    judge: Judge, limits: Limits, profile: DeviceProfile, *, progress: Progress = SILENT
) -> list[Surveyed]:
    """Every cut with powers of two of its channels and with all of them, network by network, cut by cut.

    Cuts that break a limit of cost even with one channel are left out: nobody needs their features.
    """
    found: list[Surveyed] = []
    for (backbone, input_size), splitter in judge.space.splitters.items():
        cuts = [
            cut
            for cut in splitter.cuts
            if not limits.violated(least_costs(judge.space, (backbone, input_size, cut.name), profile))
        ]
        names = [cut.name for cut in cuts]
        judge.characterise((backbone, input_size), names, progress=progress)
        with progress.task(f"closed forms of {splitter.backbone.name.architecture}", len(cuts)) as task:
            for cut in cuts:
                candidates = [
                    Candidate(backbone, input_size, cut.name, count, POLICY)
                    for count in surveyed_counts(cut.channels)
                ]
                proxies = judge.all_closed_forms(candidates, progress=progress)
                found += map(Surveyed, candidates, proxies)
                task.advance(note=cut.name)
    return found


def surveyed_counts(channels: int) -> list[int]:
    """Powers of two up to ``channels``, and that."""
    every = channel_counts(channels)
    return [count for count in every if count.bit_count() == 1 or count == channels]
