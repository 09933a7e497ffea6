"""Whether a profile makes sense: limits that nothing meets, and limits that nothing exceeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .schema import DeviceProfile
from .toml_lines import KeyPath

_HIGHEST = {"psnr_db": 60.0, "ssim": 1.0, "r2": 1.0}
"""The most that the measures of privacy loss can be."""
_HELD = ("weights_kb", "peak_ram_kb")


@dataclass(frozen=True)
class Doubt:
    """Something to look at, and the key it is about."""

    code: str
    path: KeyPath
    message: str


def doubts_about(profile: DeviceProfile) -> Iterator[Doubt]:
    """What a valid profile says that is hardly meant."""
    limits = profile.limits
    if not limits:
        message = "the profile sets no limits; a search falls back on its default, r2 = 0.5, alone"
        yield Doubt("no-limits", ("limits",), message)
    memory_kb = profile.memory_mb * 1024
    for metric in _HELD:
        if limits.get(metric, 0) > memory_kb:
            message = (
                f"{metric} {limits[metric]:g} is more than the device's {profile.memory_mb:g} MB of memory"
            )
            yield Doubt("more-than-memory", ("limits", metric), message)
    if (limit := limits.get("latency_ms")) is not None and limit < (least := profile.least_latency_ms):
        message = (
            f"latency_ms {limit:g} cannot be met: a run that computes nothing is predicted at {least:.3g} ms"
        )
        yield Doubt("cannot-be-met", ("limits", "latency_ms"), message)
    for metric, highest in _HIGHEST.items():
        if limits.get(metric, 0) >= highest:
            message = f"{metric} {limits[metric]:g} limits nothing: it is never more than {highest:g}"
            yield Doubt("limits-nothing", ("limits", metric), message)
