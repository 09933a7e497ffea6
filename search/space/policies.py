"""How what is sent of a cut is chosen: some of its channels, or a mixing of all of them.

Channel policies keep rows of the identity; ``projection`` and ``adversarial`` give a matrix, which runs on
the device as a 1x1 convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...encoders import ProjectionMethod, random_channels, top_channels
from ...errors import InputError, unknown

if TYPE_CHECKING:
    from ...defences import ChannelScatter

Selection = tuple[int, ...] | NDArray[np.float32]
"""Kept channels, ascending, or a mixing matrix float32 (D', C)."""

GOOD_SHARE = 0.5
"""``leak-prune`` keeps at random among this share of what was not pruned, the best by Fisher."""
DRAWN_FROM = 4 / 3
"""It draws from so many channels at least for each that it keeps, so that the secret decides something."""

_LOOKED_AT = 8
"""Candidates that the greedy selection weighs anew at each step: those that were best before."""


class CutView(Protocol):
    """What a policy may know of a cut with C channels.

    What costs time is asked for only where a policy needs it.
    """

    @property
    def channels(self) -> int:
        """C."""
        ...

    @property
    def secret(self) -> bytes:
        """What a random selection is drawn with."""
        ...

    @property
    def purpose(self) -> str:
        """Backbone, input size and cut: separates the choices made with one secret."""
        ...

    @property
    def seed(self) -> int:
        """For what is trained."""
        ...

    @property
    def accelerator(self) -> str:
        """Where torch computes: ``auto``, ``cpu``, ``cuda`` or ``mps``."""
        ...

    @property
    def fisher(self) -> NDArray[np.float64]:
        """Fisher's discriminant of each channel, (C,)."""
        ...

    @property
    def leakage_alone(self) -> NDArray[np.float64]:
        """The r2 that inversion of each channel alone reaches, (C,)."""
        ...

    def utility(self, selection: Sequence[int]) -> float:
        """The closed-form accuracy of a selection, 0 to 1, on images that it is not judged on later."""
        ...

    def leakage(self, selection: Sequence[int]) -> float:
        """The closed-form r2 of a selection."""
        ...

    @property
    def scatter(self) -> ChannelScatter:
        """The channels' covariances, for mixings."""
        ...

    def examples(self) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint8]]:
        """Features (n, C, h, w) of all channels, labels (n,) and images (n, R, R, 3) at the reference size,
        none of which the selection is judged on later."""
        ...


@dataclass(frozen=True)
class Parameter:
    """A figure that a policy can be tuned by, and what it may be."""

    name: str
    default: float
    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Policy:
    """A way to choose ``count`` of C channels, or to mix C to ``count``; 0 < ``count`` < C.

    ``mixes``: the method where the selection is a matrix, ``None`` where channels are kept. ``secret``: the
    selection depends on the secret. ``starts_as``: the policy from whose selection, with its default
    parameters, this one is trained.
    """

    name: str
    choose: Callable[[CutView, int, Mapping[str, float]], Selection]
    parameters: tuple[Parameter, ...] = ()
    mixes: ProjectionMethod | None = None
    secret: bool = False
    starts_as: str | None = None


def select(policy: str, parameters: Mapping[str, float], view: CutView, count: int) -> Selection:
    """What is sent of a cut. Parameters that are not given have their default.

    Where all channels are kept there is nothing to choose, and mixing them hides nothing: the selection is
    then every channel, whatever the policy.

    Raises:
        InputError: no such policy or parameter, one out of range, or ``count`` not in 1..C.
    """
    if policy not in POLICIES:
        raise unknown("policy", policy, POLICIES)
    chosen = POLICIES[policy]
    values = {parameter.name: parameter.default for parameter in chosen.parameters}
    for name, value in parameters.items():
        if name not in values:
            raise unknown(f"parameter of {policy}", name, values)
        bounds = next(parameter for parameter in chosen.parameters if parameter.name == name)
        if not bounds.low <= value <= bounds.high:
            raise InputError(
                f"{name} {value:g} of {policy} is out of range",
                hint=f"allowed: {bounds.low:g} to {bounds.high:g}",
            )
        values[name] = float(value)
    if not 1 <= count <= view.channels:
        raise InputError(f"{count} of {view.channels} channels", hint=f"allowed: 1 to {view.channels}")
    if count == view.channels:
        return tuple(range(count))
    return chosen.choose(view, count, values)


def _random(view: CutView, count: int, _: Mapping[str, float]) -> Selection:
    # Of each count a draw of its own: a smaller one must not be a part of a larger one.
    purpose = f"{view.purpose} {count}"
    return random_channels(view.secret, available=view.channels, count=count, purpose=purpose)


def _fisher(view: CutView, count: int, _: Mapping[str, float]) -> Selection:
    return top_channels(view.fisher, count)


def _leak_prune(view: CutView, count: int, values: Mapping[str, float]) -> Selection:
    """PrivyNet's full procedure (arXiv 1709.06161, section 4): without the most leaking channels, at random
    among those that separate the classes best."""
    least = min(view.channels, math.ceil(DRAWN_FROM * count))
    left = max(least, view.channels - math.floor(values["pruned"] * view.channels))
    quiet = np.array(top_channels(-view.leakage_alone, left))
    good = quiet[list(top_channels(view.fisher[quiet], max(least, math.ceil(GOOD_SHARE * left))))]
    # A purpose of its own: what one policy's choice betrays says nothing of the other's.
    drawn = random_channels(
        view.secret, available=len(good), count=count, purpose=f"leak-prune {view.purpose} {count}"
    )
    return tuple(int(good[place]) for place in drawn)


def _joint(view: CutView, count: int, values: Mapping[str, float]) -> Selection:
    """Greedy on utility - weight * leakage of the closed forms.

    Each step adds the best of the channels whose gain was largest when they were last weighed (the lazy
    evaluation of Minoux 1978, cut off after a few).
    """

    def worth(kept: Sequence[int]) -> float:
        return view.utility(kept) - values["weight"] * view.leakage(kept)

    gains = np.array([worth([channel]) for channel in range(view.channels)])
    kept: list[int] = []
    reached = 0.0
    while len(kept) < count:
        looked_at = np.argsort(-gains, kind="stable")[: min(_LOOKED_AT, view.channels - len(kept))]
        if kept:
            for channel in looked_at:
                gains[channel] = worth([*kept, int(channel)]) - reached
        best = int(looked_at[np.argmax(gains[looked_at])])
        reached += float(gains[best])
        kept.append(best)
        gains[best] = -math.inf
    return tuple(sorted(kept))


def _projection(view: CutView, count: int, values: Mapping[str, float]) -> Selection:
    from ...defences import eigen_projection

    scatter = view.scatter
    return eigen_projection(
        scatter.between, scatter.within, scatter.predictability, outputs=count, weight=values["weight"]
    )


def _adversarial(view: CutView, count: int, values: Mapping[str, float]) -> Selection:
    from ...defences import train_projection

    features, labels, images = view.examples()
    return train_projection(
        features,
        labels,
        images,
        outputs=count,
        weight=values["weight"],
        scatter=view.scatter,
        budget_s=values["seconds"],
        seed=view.seed,
        accelerator=view.accelerator,
    )


POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            Policy("random", _random, secret=True),
            Policy("fisher", _fisher),
            Policy("leak-prune", _leak_prune, (Parameter("pruned", 0.5, 0.0, 0.9),), secret=True),
            Policy("joint", _joint, (Parameter("weight", 1.0, 0.03, 30.0, log=True),)),
            Policy(
                "projection", _projection, (Parameter("weight", 4.0, 0.1, 100.0, log=True),), mixes="eigen"
            ),
            Policy(
                "adversarial",
                _adversarial,
                (
                    Parameter("weight", 2.0, 0.1, 20.0, log=True),
                    Parameter("seconds", 20.0, 0.1, 600.0, log=True),
                ),
                mixes="adversarial",
                starts_as="projection",
            ),
        )
    }
)
"""By name, simplest first."""
