"""A predicted time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LatencyPrediction:
    """Predicted time of one image (batch 1) in milliseconds, and the interval the time is expected in.

    ``estimated``: the coefficients come from published figures of other networks and another runtime, not
    from measurements on the target.
    """

    ms: float
    low: float
    high: float
    estimated: bool = True
