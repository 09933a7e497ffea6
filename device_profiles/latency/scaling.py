"""How much of a network's time more threads take off.

A runtime wakes its other threads for each kernel and meanwhile works on with the first: up to a moment that
the target's scheduler sets, a kernel gains nothing from more threads, or loses by it; what is left is shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .features import NETWORK_WIDE, features_of
from .fitting import Fit, left_out, solve

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
    kernels = tuple(kernels)
    found = dict.fromkeys(SCALING, 0.0)
    found["per_run_overhead"] = 1.0
    of_kernels = {
        name: value
        for name, value in coefficients.items()
        if name not in NETWORK_WIDE and name != "per_run_overhead"
    }
    for kernel in kernels:
        work = features_of((kernel,), channel_block=channel_block)
        ms = sum(value * work[name] for name, value in of_kernels.items())
        group = "convolutions" if kernel.convolution is not None else "others"
        found[f"{group}_start"] += min(ms, start_ms)
        found[f"{group}_rest"] += max(0.0, ms - start_ms)
        for name in ("per_kernel_overhead", "per_small_kernel_overhead", "per_reorder_overhead"):
            found[name] += work[name]
    whole = features_of(kernels, channel_block=channel_block)
    found["memory"] = sum(coefficients.get(name, 0.0) * whole[name] for name in NETWORK_WIDE)
    return found


def fit_scaling(
    networks: Sequence[Sequence[Kernel]],
    times_ms: Sequence[float],
    coefficients: Mapping[str, float],
    *,
    channel_block: int,
) -> ScalingFit:
    """Non-negative coefficients of the times of networks with these kernels on several threads, as
    :func:`privynet.device_profiles.latency.fit_latency` fits them; ``coefficients`` are those of the fewest
    threads. The start is the one of :data:`STARTS_MS` that predicts networks left out best."""
    times = np.asarray(times_ms, dtype=np.float64)
    fits = []
    for start in STARTS_MS:
        terms = np.array(
            [
                list(
                    scaled_times(kernels, coefficients, channel_block=channel_block, start_ms=start).values()
                )
                for kernels in networks
            ]
        )
        solution = solve(terms, times)
        found = {name: float(value) for name, value in zip(SCALING, solution, strict=True) if value > 0}
        fits.append(ScalingFit(found, times / left_out(terms, times), start))
    return min(fits, key=lambda fit: float(np.quantile(fit.errors, 0.75)))
