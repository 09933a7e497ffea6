"""What a search chooses from: backbone, input size, cut, number of channels and how they are selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..encoders import Splitter

if TYPE_CHECKING:
    import optuna

POLICIES = ("fisher", "random")
"""Fisher's discriminant on the training features; at random under a secret."""

IMAGENET_UPSCALING = 2


@dataclass(frozen=True)
class Candidate:
    """One point: ``backbone`` is its place in the search's list, ``channels`` how many are kept."""

    backbone: int
    input_size: int
    cut: str
    channels: int
    policy: str

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Space:
    """The candidates over some splitters, keyed by (place of the backbone, input size)."""

    def __init__(self, splitters: Mapping[tuple[int, int], Splitter]) -> None:
        self.splitters = splitters
        self._sites = sorted(splitters)

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """Let the study's sampler choose; the names of parameters do not depend on the order of trials."""
        names = [f"{backbone}@{size}" for backbone, size in self._sites]
        chosen = trial.suggest_categorical("backbone", names) if len(names) > 1 else names[0]
        backbone, input_size = self._sites[names.index(chosen)]
        cuts = self.splitters[backbone, input_size].cuts
        cut = cuts[trial.suggest_int(f"cut:{chosen}", 0, len(cuts) - 1)]
        counts = channel_counts(max(cut.channels for cut in cuts))
        exponent = trial.suggest_int(f"channels:{chosen}", 0, len(counts) - 1)
        policy = trial.suggest_categorical("policy", POLICIES)
        count = min(counts[exponent], cut.channels)
        # With all channels kept there is nothing to select, and the policies are one point.
        return Candidate(
            backbone, input_size, cut.name, count, POLICIES[0] if count == cut.channels else policy
        )

    def shape(self, candidate: Candidate) -> tuple[int, int, int]:
        """(channels, height, width) of what the candidate's encoder sends."""
        _, height, width = self.splitters[candidate.backbone, candidate.input_size].cut(candidate.cut).shape
        return candidate.channels, height, width


def channel_counts(available: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16, …: two to the octave, up to all channels."""
    counts = {available}
    power = 1
    while power <= available:
        counts.add(power)
        if power > 1 and power * 3 // 2 < available:
            counts.add(power * 3 // 2)
        power *= 2
    return tuple(sorted(counts))


def default_input_size(native_size: int, reference_size: int) -> int:
    """The input size in pixels for images of ``reference_size``.

    Networks trained on larger images find more in images that are scaled up; twice is a compromise between
    accuracy and cost.
    """
    return (
        reference_size
        if native_size <= reference_size
        else min(native_size, IMAGENET_UPSCALING * reference_size)
    )


def input_sizes(chosen: Sequence[int], native_size: int, reference_size: int) -> tuple[int, ...]:
    """The user's input sizes, or the default one."""
    return tuple(dict.fromkeys(chosen)) or (default_input_size(native_size, reference_size),)
