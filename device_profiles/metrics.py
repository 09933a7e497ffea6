"""The nine metrics a limit can be set on: what each means and in which unit. All limits are upper limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import InputError, unknown


@dataclass(frozen=True)
class Metric:
    """One metric; ``privacy`` says that it measures privacy loss, for which a limit of zero makes sense."""

    name: str
    unit: str
    meaning: str
    privacy: bool = False

    def written(self, value: float) -> str:
        """A value with its unit, large ones with their thousands."""
        number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        return number if self.unit == "1" else f"{number} {self.unit}"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("macs", "MACs", "multiply-accumulates for one image"),
        Metric("weights_kb", "KiB", "the graph's initialisers"),
        Metric("peak_ram_kb", "KiB", "largest set of activations alive at once, input and output included"),
        Metric("storage_kb", "KiB", "the shipped model file"),
        Metric("latency_ms", "ms", "one image, at the prediction interval's upper end"),
        Metric("payload_bytes", "bytes", "what leaves the device per image"),
        Metric("psnr_db", "dB", "PSNR of the strongest attack's reconstructions", privacy=True),
        Metric("ssim", "1", "SSIM of the strongest attack's reconstructions", privacy=True),
        Metric("r2", "1", "share of the images' variance that the strongest attack recovers", privacy=True),
    )
}


def check_limit(name: str, value: float) -> None:
    """Raise :class:`InputError` unless ``value`` can be the upper limit of the metric ``name``."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    allowed = "zero or more" if METRICS[name].privacy else "more than zero"
    if not math.isfinite(value) or value < 0 or (value == 0 and not METRICS[name].privacy):
        unit = "" if METRICS[name].unit == "1" else f" ({METRICS[name].unit})"
        raise InputError(
            f"limit {name}={value:g} cannot be met", hint=f"give a finite number, {allowed}{unit}"
        )


def parse_limits(assignments: Iterable[str]) -> dict[str, float]:
    """``["latency_ms=50", "r2=0.5"]`` as ``{"latency_ms": 50.0, "r2": 0.5}``.

    Raises :class:`InputError` for an unknown metric, one given twice, and a value that is no number, NaN,
    infinite, negative, or (privacy metrics excepted) zero.
    """
    limits: dict[str, float] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise InputError(
                f"limit {assignment!r} has no '='", hint="write METRIC=VALUE, such as latency_ms=50"
            )
        if name not in METRICS:
            raise unknown("metric", name, METRICS)
        if name in limits:
            raise InputError(f"limit {name} is given twice", hint="keep one of them")
        try:
            value = float(text)
        except ValueError:
            raise InputError(
                f"limit {assignment!r} is not a number", hint=f"write {name}=VALUE in {METRICS[name].unit}"
            ) from None
        check_limit(name, value)
        limits[name] = value
    return limits
