"""Limits that no candidate can be inside, found on shapes alone before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from ...device_profiles import METRICS, DeviceProfile
from ...errors import InputError
from ..space import Candidate, Space, candidate_costs
from .limits import Limits, cost_metrics


def check_limits(space: Space, limits: Limits, profile: DeviceProfile, backbones: Sequence[str]) -> None:
    """Raise ``InputError`` where every cut breaks a limit even with one channel in the fewest bits.

    ``backbones``: what they are called, by their place in the space.
    """
    least: dict[str, tuple[float, str]] = {}
    broken: list[tuple[float, list[str], str]] = []
    for (backbone, input_size), splitter in space.splitters.items():
        for cut in splitter.cuts:
            metrics = least_costs(space, (backbone, input_size, cut.name), profile)
            violated = limits.violated(metrics)
            if not violated:
                return
            place = f"{backbones[backbone]} at {input_size} pixels, cut {cut.name}"
            broken.append((limits.total_violation(metrics), violated, place))
            for metric, value in metrics.items():
                if metric not in least or value < least[metric][0]:
                    least[metric] = value, place
    names = " and ".join(dict.fromkeys(backbones))
    for metric, (value, place) in least.items():
        limit = limits.by_metric.get(metric)
        if limit is not None and limit.violation(value) > 0:
            written = METRICS[metric].written
            raise InputError(
                f"no cut of {names} has {metric} of at most {written(limit.limit)} ({limit.source} limit): "
                f"the least is {written(value)}, {place}, with one channel",
                hint=f"raise --limit {metric}=VALUE, give a smaller --input-size, or another --backbone",
            )
    _, violated, place = min(broken)
    raise InputError(
        f"no cut of {names} is inside all limits at once, even with one channel; the nearest, {place}, "
        f"breaks {' and '.join(violated)}",
        hint="raise one of them, or give another --backbone",
    )


def least_costs(space: Space, site: tuple[int, int, str], profile: DeviceProfile) -> dict[str, float]:
    """The cost metrics of a cut with one channel in the fewest bits; more channels cost no less."""
    backbone, input_size, cut = site
    candidate = Candidate(backbone, input_size, cut, 1, "fisher", bits=min(space.choices.bits))
    return cost_metrics(candidate_costs(space, candidate), profile)
