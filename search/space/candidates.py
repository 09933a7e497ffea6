"""What a search chooses from: backbone, input size, cut, channels, how they are selected and sent."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...encoders import Costs, Splitter
from ...errors import InputError, unknown
from .policies import POLICIES

if TYPE_CHECKING:
    import optuna

IMAGENET_UPSCALING = 2

PAYLOAD_BITS = (32, 8, 4, 2)

_STRENGTHS = 5
"""Of each policy's parameter, evenly spaced between its bounds: fewer points that differ say more."""


@dataclass(frozen=True)
class Candidate:
    """One point: ``backbone`` is its place in the search's list, ``channels`` how many are sent.

    ``strength``: the policy's first parameter, 0 for one without. ``noise``: the noise's share of the
    features' standard deviation. ``bits``: of each value that is sent.
    """

    backbone: int
    input_size: int
    cut: str
    channels: int
    policy: str
    strength: float = 0.0
    noise: float = 0.0
    bits: int = 32

    @property
    def site(self) -> tuple[int, int, str]:
        """Where it is cut: backbone, input size and cut."""
        return self.backbone, self.input_size, self.cut

    @property
    def network(self) -> tuple[int, int]:
        """Backbone and input size."""
        return self.backbone, self.input_size

    @property
    def kind(self) -> str:
        """What it sends: ``kept`` channels as they are, or mixtures, named by the policy that makes them."""
        return self.policy if POLICIES[self.policy].mixes else "kept"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Choices:
    """What of the space a user may narrow or widen.

    Raises:
        InputError: nothing to choose from, an unknown policy, noise below 0, or bits that no payload has.
    """

    policies: tuple[str, ...] = tuple(POLICIES)
    noises: tuple[float, ...] = (0.0,)
    bits: tuple[int, ...] = (32,)

    def __post_init__(self) -> None:
        for name, values in (("policy", self.policies), ("noise", self.noises), ("bits", self.bits)):
            if not values:
                raise InputError(f"no {name} to choose from", hint="name at least one")
        for policy in self.policies:
            if policy not in POLICIES:
                raise unknown("policy", policy, POLICIES)
        for noise in self.noises:
            if not 0 <= noise < float("inf"):
                raise InputError(f"a noise share of {noise:g} is out of range", hint="allowed: 0 or more")
        for bits in self.bits:
            if bits not in PAYLOAD_BITS:
                allowed = ", ".join(map(str, PAYLOAD_BITS))
                raise InputError(f"a payload of {bits} bits is not possible", hint=f"allowed: {allowed}")

    @classmethod
    def of(cls, policies: Sequence[str], noises: Sequence[float], bits: Sequence[int]) -> Choices:
        """With what was left empty as it is by default."""
        given: dict[str, Any] = {"policies": policies, "noises": noises, "bits": bits}
        return replace(cls(), **{name: tuple(values) for name, values in given.items() if values})

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {name: list(values) for name, values in asdict(self).items()}


class Space:
    """The candidates over some splitters, keyed by (place of the backbone, input size)."""

    def __init__(self, splitters: Mapping[tuple[int, int], Splitter], choices: Choices | None = None) -> None:
        self.splitters, self.choices = splitters, choices or Choices()
        self.costs: dict[Hashable, Costs] = {}
        """What was counted of places so far, by ``candidate_costs``."""
        self._networks = sorted(splitters)

    def suggest(self, trial: optuna.Trial) -> Candidate:
        """Let the study's sampler choose; the names of parameters do not depend on the order of trials."""
        names = [f"{backbone}@{size}" for backbone, size in self._networks]
        chosen = trial.suggest_categorical("backbone", names) if len(names) > 1 else names[0]
        backbone, input_size = self._networks[names.index(chosen)]
        cuts = self.splitters[backbone, input_size].cuts
        cut = cuts[trial.suggest_int(f"cut:{chosen}", 0, len(cuts) - 1)]
        # A parameter for each width: the same one must have the same range in every trial.
        counts = channel_counts(cut.channels)
        count = counts[trial.suggest_int(f"channels of {cut.channels}", 0, len(counts) - 1)]
        policy = str(_suggest(trial, "policy", self.choices.policies))
        strength = float(_suggest(trial, f"strength:{policy}", strengths(policy)))
        if count == cut.channels:
            # With all channels kept there is nothing to select, and the policies are one point.
            policy, strength = "fisher", 0.0
        return Candidate(
            backbone,
            input_size,
            cut.name,
            count,
            policy,
            strength,
            noise=float(_suggest(trial, "noise", self.choices.noises)),
            bits=int(_suggest(trial, "bits", self.choices.bits)),
        )

    def parameters(self, candidate: Candidate) -> dict[str, Any] | None:
        """What ``suggest`` would have to draw to give the candidate; ``None`` where the space lacks it."""
        if candidate.network not in self.splitters:
            return None
        chosen = f"{candidate.backbone}@{candidate.input_size}"
        cuts = self.splitters[candidate.network].cuts
        cut = next((cut for cut in cuts if cut.name == candidate.cut), None)
        if cut is None or not 1 <= candidate.channels <= cut.channels:
            return None
        counts = channel_counts(cut.channels)
        policy, strength = candidate.policy, candidate.strength
        if candidate.channels == cut.channels:
            policy, strength = self.choices.policies[0], strengths(self.choices.policies[0])[0]
        known = candidate.channels in counts and policy in self.choices.policies
        known = known and strength in strengths(policy)
        if not known or candidate.noise not in self.choices.noises or candidate.bits not in self.choices.bits:
            return None
        return {
            "backbone": chosen,
            f"cut:{chosen}": cut.index,
            f"channels of {cut.channels}": counts.index(candidate.channels),
            "policy": policy,
            f"strength:{policy}": strength,
            "noise": candidate.noise,
            "bits": candidate.bits,
        }

    def shape(self, candidate: Candidate) -> tuple[int, int, int]:
        """(channels, height, width) of what the candidate's encoder sends."""
        _, height, width = self.splitters[candidate.network].cut(candidate.cut).shape
        return candidate.channels, height, width


def strengths(policy: str) -> tuple[float, ...]:
    """The values of a policy's first parameter that are tried; 0 alone for a policy without."""
    if not POLICIES[policy].parameters:
        return (0.0,)
    parameter = POLICIES[policy].parameters[0]
    space = np.geomspace if parameter.log else np.linspace
    return tuple(float(f"{value:.2g}") for value in space(parameter.low, parameter.high, _STRENGTHS))


def _suggest(trial: optuna.Trial, name: str, values: Sequence[Any]) -> Any:
    """One of the values; a choice of one is none, and stays out of the study."""
    return trial.suggest_categorical(name, values) if len(values) > 1 else values[0]


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
