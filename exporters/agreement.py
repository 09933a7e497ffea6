"""Whether two runtimes send the same for the same images."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Agreement:
    """How far what was got is from what was wanted."""

    max_abs_error: float
    """In units of the features; infinite for another shape or what is not finite."""
    max_abs_output: float
    share_off: float
    """The share of integers that differ; 0 for float32."""
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether both say the same."""
        return self.max_abs_error <= self.allowed and self.share_off <= MAX_SHARE_OFF

    def __str__(self) -> str:
        share = f", {self.share_off:.1%} of the integers" if self.share_off else ""
        return f"{self.max_abs_error:.3g}{share} (outputs reach {self.max_abs_output:.3g})"


def compare(
    got: NDArray[Any], wanted: NDArray[Any], payload: Payload | None = None, *, tolerance: float = TOLERANCE
) -> Agreement:
    """Compare outputs (n, ...): float32 within ``tolerance``, a payload's integers within one step."""
    if payload is None or not payload.quantised:
        largest = float(np.abs(wanted).max(initial=0))
        fits = got.shape == wanted.shape and bool(np.isfinite(got).all())
        error = float(np.abs(got - wanted).max(initial=0)) if fits else float("inf")
        return Agreement(error, largest, 0.0, tolerance * max(1.0, largest))
    largest = payload.scale * max(abs(payload.zero_point), abs(payload.top - payload.zero_point))
    # Half a step of play, for the product's own rounding.
    allowed = 1.5 * payload.scale
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return Agreement(float("inf"), largest, 1.0, allowed)
    off = np.abs(payload.steps(got).astype(np.int16) - payload.steps(wanted).astype(np.int16))
    share = float(np.mean(off > 0)) if off.size else 0.0
    return Agreement(int(off.max(initial=0)) * payload.scale, largest, share, allowed)
