"""How much of a network's time more threads take off.

A runtime wakes its other threads for each kernel and meanwhile works on with the first: up to a moment that
the target's scheduler sets, a kernel gains nothing from more threads, or loses by it; what is left is shared.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .features import FEATURES, NETWORK_WIDE, features_of
from .fitting import Array, Fit, LatencyFit, best_of, coefficients_of, left_out, solve

if TYPE_CHECKING:
    from ...encoders import Kernel

SCALING: dict[str, str] = {
    "per_run_overhead": "ms",
    "per_kernel_overhead": "ms",
    "per_small_kernel_overhead": "ms",
    "per_reorder_overhead": "ms",
    "convolutions_start": "1",
    "convolutions_rest": "1",
    "others_start": "1",
    "others_rest": "1",
    "memory": "1",
}
"""What the time on several threads is linear in, with the unit of the coefficients: numbers of kernels, and
times on the fewest threads: of convolutions and of other kernels up to ``start_ms`` and from there on, and of
weights that exceed a cache. docs/devices.md says what each is."""

STARTS_MS = (0.003, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2, 0.4)

_NAMES = tuple(FEATURES)
_COUNTED = [name for name in SCALING if name in FEATURES]
_OF_KERNELS = np.array([name not in (*NETWORK_WIDE, "per_run_overhead") for name in _NAMES], dtype=np.float64)
_OF_NETWORKS = np.array([name in NETWORK_WIDE for name in _NAMES], dtype=np.float64)


@dataclass(frozen=True)
class ScalingFit(Fit):
    """Coefficients of :data:`SCALING`, and the moment up to which a kernel gains nothing."""

    start_ms: float


def scaled_times(
    kernels: Iterable[Kernel], coefficients: Mapping[str, float], *, channel_block: int, start_ms: float
) -> dict[str, float]:
    """The terms of :data:`SCALING` for a network.

    ``coefficients`` are those of its time on the fewest threads, in the units of
    :data:`privynet.device_profiles.latency.FEATURES`.
    """
    alone = np.array([coefficients.get(name, 0.0) for name in FEATURES])
    return _Network(tuple(kernels), channel_block).terms(alone, start_ms)


def fit_scaling(
    networks: Sequence[Sequence[Kernel]],
    times_ms: Sequence[float],
    fewest_ms: Sequence[float],
    *,
    fewest: LatencyFit,
) -> ScalingFit:
    """Non-negative coefficients of the times of networks with these kernels on several threads.

    ``fewest_ms`` are the same networks' times on the fewest threads, ``fewest`` is the fit to them. A network
    that is left out is left out of both fits. The start is the one of :data:`STARTS_MS` that predicts
    networks left out best.
    """
    times, alone_ms = np.asarray(times_ms, dtype=np.float64), np.asarray(fewest_ms, dtype=np.float64)
    counted = [_Network(tuple(kernels), fewest.channel_block) for kernels in networks]
    whole = np.array([one.whole for one in counted])
    alone_without: dict[bytes, Array] = {}

    def terms(alone: Array, start: float) -> Array:
        return np.array([[one.terms(alone, start)[name] for name in SCALING] for one in counted])

    def predicted(out: NDArray[np.bool_], start: float) -> Array:
        fold = out.tobytes()
        if fold not in alone_without:
            alone_without[fold] = solve(whole[~out], alone_ms[~out])
        found = terms(alone_without[fold], start)
        return found[out] @ solve(found[~out], times[~out])

    alone = np.array([fewest.coefficients.get(name, 0.0) for name in FEATURES])
    fits = [
        ScalingFit(
            coefficients_of(SCALING, solve(terms(alone, start), times)),
            times / left_out(len(times), functools.partial(predicted, start=start)),
            start,
        )
        for start in STARTS_MS
    ]
    return best_of(fits)


class _Network:
    """The features of a network's kernels, one row each, and of the whole."""

    def __init__(self, kernels: Sequence[Kernel], channel_block: int) -> None:
        rows = [list(features_of((kernel,), channel_block=channel_block).values()) for kernel in kernels]
        self._kernels = np.array(rows).reshape(len(rows), len(FEATURES))
        self._convolutions = np.array([kernel.convolution is not None for kernel in kernels], dtype=bool)
        self.whole = np.array(list(features_of(kernels, channel_block=channel_block).values()))

    def terms(self, alone: Array, start_ms: float) -> dict[str, float]:
        """Those of :data:`SCALING`; ``alone`` has the coefficients of :data:`FEATURES`."""
        ms = self._kernels @ (alone * _OF_KERNELS)
        starts, rests = np.minimum(ms, start_ms), np.maximum(ms - start_ms, 0.0)
        of = self._convolutions
        return {
            **{name: float(self.whole[_NAMES.index(name)]) for name in _COUNTED},
            "convolutions_start": float(starts[of].sum()),
            "convolutions_rest": float(rests[of].sum()),
            "others_start": float(starts[~of].sum()),
            "others_rest": float(rests[~of].sum()),
            "memory": float(self.whole @ (alone * _OF_NETWORKS)),
        }
