"""The profile that a calibration gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import PrivynetError
from ..latency import FEATURES, SCALING, Fit, LatencyFit, ScalingFit
from ..latency.fitting import CHANNEL_BLOCKS
from ..latency.scaling import STARTS_MS
from ..measuring import PackResult, usable_cores
from ..profiles import SCHEMA_VERSION, DeviceProfile, LatencyModel, Precision


def make_profile(
    name: str,
    on: str,
    like: DeviceProfile | None,
    timed: Mapping[int, PackResult],
    fits: Mapping[Precision, Mapping[int, Fit]],
) -> DeviceProfile:
    """The profile of a target called ``name``; ``timed`` is what the float32 pack took by thread count.

    Raises :class:`PrivynetError` when the target does not say how much memory it has and ``like`` is None.
    """
    first = next(iter(timed.values()))
    machine = first.machine
    processor = str(machine.get("processor") or machine["architecture"])
    seen = f"seen by the measuring agent on {machine['system']}"
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "title": f"{processor}, calibrated",
        "class": like.device_class if like else ("phone" if on.startswith("adb:") else "board"),
        "core_type": processor,
        "runtime": f"ONNX Runtime {machine['onnxruntime']}, CPU execution provider",
        "cores": _figure(usable_cores(machine), "cores", seen),
        "memory_mb": _memory(machine, like, seen),
        "threads": _threads(timed, like),
        "latency": latency_model(processor, fits).model_dump(mode="json", exclude_none=True),
    }
    if like is not None:
        limits = like.document().get("limits", {})
        document["limits"] = {
            name: {**limit, "reason": f"as of {like.name}: {limit['reason']}"}
            for name, limit in limits.items()
        }
    return DeviceProfile.model_validate(document)


def latency_model(core_family: str, fits: Mapping[Precision, Mapping[int, Fit]]) -> LatencyModel:
    """The latency model of a profile: fits by precision and thread count as figures with their errors."""
    tables = {
        table: figures
        for precision, found in fits.items()
        for table, figures in _tables(precision, found).items()
    }
    return LatencyModel.model_validate({"core_family": core_family, **tables})


def check_memory(machine: Mapping[str, Any], like: DeviceProfile | None) -> None:
    """Raise :class:`PrivynetError` when neither the target nor ``like`` says how much memory there is."""
    if not machine.get("memory_mb") and like is None:
        raise PrivynetError(
            "the target does not say how much memory it has", hint="name a profile with --like"
        )


def _memory(machine: Mapping[str, Any], like: DeviceProfile | None, seen: str) -> dict[str, Any]:
    if machine.get("memory_mb"):
        return _figure(round(machine["memory_mb"]), "MB", seen)
    check_memory(machine, like)
    assert like is not None
    memory: dict[str, Any] = like.document()["memory_mb"]
    return memory


def _threads(timed: Mapping[int, PackResult], like: DeviceProfile | None) -> dict[str, Any]:
    """Those of ``like`` where they were timed, else those on which the models that all came to take least."""
    if like is not None and like.threads in timed:
        threads: dict[str, Any] = like.document()["threads"]
        return threads
    both = set.intersection(*(set(result.medians_ms) for result in timed.values()))
    fastest = min(timed, key=lambda count: sum(timed[count].medians_ms[name] for name in both))
    return _figure(fastest, "threads", "the fastest of those that were timed")


def error_figures(fit: Fit) -> dict[str, float]:
    """Quantiles of the relative error for models left out, the share within 10 %, and how many there are."""
    errors = fit.errors
    return {
        "median": float(np.median(errors)),
        "p90": float(np.quantile(errors, 0.9)),
        "max": float(errors.max()),
        "within_10_percent": float((errors <= 0.1).mean()),
        "n": len(errors),
    }


def _tables(precision: Precision, fits: Mapping[int, Fit]) -> dict[str, dict[str, Any]]:
    times: dict[str, Any] = {}
    scaling: dict[str, Any] = {}
    best = "that predicts models left out best"
    for threads, fit in fits.items():
        if isinstance(fit, LatencyFit):
            blocks = ", ".join(map(str, CHANNEL_BLOCKS))
            block = _figure(fit.channel_block, "channels", f"the one of {blocks} {best}")
            times[str(threads)] = {"channel_block": block, **_table(fit, FEATURES)}
        elif isinstance(fit, ScalingFit):
            starts = ", ".join(map(str, STARTS_MS))
            start = _figure(fit.start_ms, "ms", f"the one of {starts} {best}")
            scaling[str(threads)] = {"start": start, **_table(fit, SCALING)}
    return {precision: times, f"{precision}_scaling": scaling}


def _table(fit: Fit, units: Mapping[str, str]) -> dict[str, Any]:
    source = f"privynet calibrate: non-negative fit to {len(fit.ratios)} micro-models"
    left_out = f"{source}, each left out in one of ten folds and of the choices made there"
    error = error_figures(fit)
    low, high = fit.interval
    return {
        **{name: _figure(value, units[name], source) for name, value in fit.coefficients.items()},
        **{f"{key}_error": _figure(error[key], "1", left_out) for key in ("median", "p90", "max")},
        "model_factor": {
            **_figure(1.0, "1", f"{left_out}; measured over predicted, 5 % to 95 % quantile"),
            "low": _rounded(low),
            "high": _rounded(high),
        },
    }


def _figure(value: float, unit: str, source: str) -> dict[str, Any]:
    return {"value": _rounded(value), "unit": unit, "source": source, "kind": "measured"}


def _rounded(value: float) -> float:
    """To five digits: more says nothing."""
    return float(f"{value:.5g}")
