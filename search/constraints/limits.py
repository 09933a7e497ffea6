"""The limits of a search: which there are, where each comes from, and how far a candidate is from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ...device_profiles import METRICS, DeviceProfile
from ...encoders.costs import Costs
from ...errors import InputError
from ...exporters.storage import estimate_storage_kb

Source = Literal["user", "profile", "default"]

DEFAULT_PRIVACY_LIMIT = ("r2", 0.5)
"""Holds when neither the user nor the profile limits privacy loss."""

NEARLY = 0.9
"""The share of a limit that is nearly all of it."""


@dataclass(frozen=True)
class Limit:
    """An upper limit of one metric, in the metric's unit."""

    metric: str
    limit: float
    source: Source

    def violation(self, value: float) -> float:
        """(value - limit) / |limit|: feasible at 0 or less, comparable between metrics."""
        return (value - self.limit) / (abs(self.limit) or 1.0)

    def use(self, value: float) -> float:
        """The share of the limit that a value takes."""
        return value / self.limit if self.limit else (1.0 if value <= 0 else float("inf"))


@dataclass(frozen=True)
class Limits:
    """All limits of a search, by metric."""

    by_metric: Mapping[str, Limit]

    @classmethod
    def resolve(cls, user: Mapping[str, float], profile: DeviceProfile) -> Limits:
        """The user's limits before the profile's; ``r2=0.5`` where no limit of privacy loss is set.

        Raises:
            InputError: a limit of something that is no metric.
        """
        unknown = sorted(user.keys() - METRICS.keys())
        if unknown:
            raise InputError(f"unknown metric {unknown[0]!r}", hint=f"allowed: {', '.join(METRICS)}")
        found: dict[str, Limit] = {}
        for metric in METRICS:
            if metric in user:
                found[metric] = Limit(metric, user[metric], "user")
            elif metric in profile.limits:
                found[metric] = Limit(metric, profile.limits[metric], "profile")
        if not any(METRICS[metric].privacy for metric in found):
            metric, value = DEFAULT_PRIVACY_LIMIT
            found[metric] = Limit(metric, value, "default")
        return cls(found)

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The normalised violation of each limit whose metric is known."""
        return {
            metric: limit.violation(metrics[metric])
            for metric, limit in self.by_metric.items()
            if metric in metrics
        }

    def violated(self, metrics: Mapping[str, float]) -> list[str]:
        """The metrics over their limit: the one definition of feasible."""
        return [metric for metric, violation in self.violations(metrics).items() if violation > 0]

    def total_violation(self, metrics: Mapping[str, float]) -> float:
        """The sum of all normalised violations: 0 where feasible."""
        return sum(max(0.0, violation) for violation in self.violations(metrics).values())

    def document(self, metrics: Mapping[str, float] | None = None) -> dict[str, Any]:
        """{metric: {limit, value, source}}; value is null where it is not known."""
        known = metrics or {}
        return {
            metric: {"limit": limit.limit, "value": known.get(metric), "source": limit.source}
            for metric, limit in self.by_metric.items()
        }

    def nearly_used(self, metrics: Mapping[str, float]) -> list[str]:
        """The limits of which at least ``NEARLY`` is used, the most used first."""
        uses = {
            metric: limit.use(metrics[metric])
            for metric, limit in self.by_metric.items()
            if metric in metrics
        }
        return sorted((metric for metric, use in uses.items() if use >= NEARLY), key=lambda m: -uses[m])


def cost_metrics(costs: Costs, profile: DeviceProfile) -> dict[str, float]:
    """The six metrics that are known without running anything; latency at the interval's upper end."""
    return {
        "macs": float(costs.macs),
        "weights_kb": costs.weights_kb,
        "peak_ram_kb": costs.peak_ram_kb,
        "storage_kb": estimate_storage_kb(costs),
        "latency_ms": profile.predict_latency_ms(costs).high,
        "payload_bytes": float(costs.payload_bytes),
    }
