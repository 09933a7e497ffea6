"""Whether two runtimes send the same for the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import Payload

TOLERANCE = 1e-3
"""Absolute, in units of the features; relative to the largest of them if that is above 1."""
MAX_SHARE_OFF = 0.01
"""The share of integers that may be off by a step: sums of another order can fall on the other side of a
rounding edge, but seldom do."""
INT8_NOISE = 0.03
"""How far outputs of the same integers may be apart on two processors, as root mean square, relative to the
outputs' own: one inner value that is rounded to the other side moves many after it. Quantisation itself costs
0.03 to 0.1."""


@dataclass(frozen=True)
class Agreement:
    """How far what was got is from what was wanted."""

    max_abs_error: float
    """In units of the features; infinite for another shape or what is not finite."""
    max_abs_output: float
    share_off: float
    """The share of integers that differ; 0 for float32."""
    noise: float
    """Root mean square of the difference, relative to that of what was wanted."""
    allowed: float
    allowed_noise: float = 0.0
    """So little is agreement, however large single errors are."""

    @property
    def holds(self) -> bool:
        """Whether both say the same."""
        near = self.max_abs_error <= self.allowed and self.share_off <= MAX_SHARE_OFF
        return near or self.noise <= self.allowed_noise

    def __str__(self) -> str:
        share = f", {self.share_off:.1%} of the integers" if self.share_off else ""
        return f"{self.max_abs_error:.3g}{share} (outputs reach {self.max_abs_output:.3g})"


def compare(
    got: NDArray[Any],
    wanted: NDArray[Any],
    payload: Payload | None = None,
    *,
    tolerance: float = TOLERANCE,
    allowed_noise: float = 0.0,
) -> Agreement:
    """Compare outputs (n, ...): float32 within ``tolerance``, a payload's integers within one step; or, where
    that is stated, both within a root mean square of ``allowed_noise``, relative to ``wanted``'s own."""
    if payload is None or not payload.quantised:
        fits = got.shape == wanted.shape and bool(np.isfinite(got).all() and np.isfinite(wanted).all())
        largest = float(np.abs(wanted).max(initial=0)) if fits else 0.0
        off = np.abs(got - wanted) if fits else np.full(1, np.inf)
        allowed = tolerance * max(1.0, largest)
        return Agreement(float(off.max(initial=0)), largest, 0.0, _noise(off, wanted), allowed, allowed_noise)
    largest = payload.scale * max(abs(payload.zero_point), abs(payload.top - payload.zero_point))
    # Half a step of play, for the product's own rounding.
    allowed = 1.5 * payload.scale
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return Agreement(float("inf"), largest, 1.0, float("inf"), allowed)
    steps = payload.steps(wanted).astype(np.int32)
    off = np.abs(payload.steps(got).astype(np.int32) - steps)
    share = float(np.mean(off > 0)) if off.size else 0.0
    noise = _noise(off, steps - payload.zero_point)
    return Agreement(int(off.max(initial=0)) * payload.scale, largest, share, noise, allowed, allowed_noise)


def _noise(off: NDArray[Any], wanted: NDArray[Any]) -> float:
    noise, signal = (float(np.sum(np.square(one, dtype=np.float64))) for one in (off, wanted))
    return math.sqrt(noise / signal) if signal else (math.inf if noise else 0.0)
