"""Measures how long kernels take on a target, and makes a device profile of it."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...errors import InputError, PrivynetError
from ...progress import SILENT, Progress, Task
from ..costs import model_costs
from ..latency import FEATURES, LatencyFit, fit_latency
from ..measuring import PackResult, run_pack
from ..profiles import NAME_PATTERN, SCHEMA_VERSION, DeviceProfile, load_profile
from ..targets import Target, open_target
from .micro_models import MicroModel, micro_models

SECONDS = 110.0
"""What the timing takes in all; copying and fitting come to it."""
LEAST_MODELS = 60
"""Fewer cannot tell the kinds of work apart."""
_SILENCE_SECONDS = 120.0
_MOST_THREADS = 4


@dataclass(frozen=True)
class Calibration:
    """A profile, and by thread count the fit that its latency model is made of and what it was fitted to:
    the times in milliseconds of the micro-models, by name."""

    profile: DeviceProfile
    fits: Mapping[int, LatencyFit]
    timed_ms: Mapping[int, Mapping[str, float]]

    def document(self) -> dict[str, Any]:
        """``profile``, and ``error``: {threads: {``median``, ``p90``, ``max``, ``within_10_percent``, ``n``}}
        of predictions for micro-models that the fit had not seen."""
        return {
            "profile": self.profile.document(),
            "error": {str(threads): _error(fit) for threads, fit in self.fits.items()},
        }


def _error(fit: LatencyFit) -> dict[str, float]:
    errors = fit.errors
    return {
        "median": float(np.median(errors)),
        "p90": float(np.quantile(errors, 0.9)),
        "max": float(errors.max()),
        "within_10_percent": float((errors <= 0.1).mean()),
        "n": len(errors),
    }


def calibrate(
    *,
    name: str,
    on: str = "local",
    threads: Sequence[int] = (),
    like: str | None = None,
    seconds: float = SECONDS,
    python: str | None = None,
    accept_new_host_key: bool = False,
    progress: Progress = SILENT,
) -> Calibration:
    """Time the pack of micro-models on a target and fit its latency model, one table for each thread count.

    ``threads``: default 1 and as many as the target has cores, up to four. ``like``: a profile whose class,
    threads and limits the new one takes over; without it the profile has no limits. ``on``, ``python``,
    ``accept_new_host_key``: as :func:`privynet.device_profiles.targets.open_target`. ``seconds`` are for all
    timing.

    Raises :class:`InputError` for what is out of range or not understood; :class:`PrivynetError` when the
    target cannot be reached, lacks what is needed, fails, or times fewer than 60 models in that time.
    """
    if not seconds > 0:
        raise InputError(f"seconds is {seconds:g}", hint="give more than 0")
    if not re.fullmatch(NAME_PATTERN, name):
        raise InputError(
            f"{name!r} is no name for a device", hint="use lower case letters, digits, '-' and '.'"
        )
    model = load_profile(like) if like is not None else None
    pack = micro_models()
    kernels = {one.name: model_costs(one.model, name=one.name).kernels for one in pack}
    target = open_target(on, python=python, accept_new_host_key=accept_new_host_key)
    with (
        tempfile.TemporaryDirectory() as folder,
        target,
        progress.task(f"timing {len(pack)} models", 1.0) as task,
    ):
        archive = Path(folder) / "pack.zip"
        _write(pack, archive)
        timed = _time(archive, target, threads=tuple(threads), seconds=seconds, task=task)
    first = fit_latency(*_columns(kernels, timed[min(timed)]))
    fits = {
        count: first
        if count == min(timed)
        else fit_latency(*_columns(kernels, result), channel_block=first.channel_block)
        for count, result in timed.items()
    }
    times = {count: result.medians_ms for count, result in timed.items()}
    return Calibration(_profile(name, on, model, timed, fits), fits, times)


def _write(pack: Sequence[MicroModel], path: Path) -> None:
    """An archive of the models in an order by chance, so that any part of it is a fair sample."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place in np.random.default_rng(0).permutation(len(pack)):
            archive.writestr(pack[place].name, pack[place].model.SerializeToString(deterministic=True))


def _time(
    archive: Path, target: Target, *, threads: tuple[int, ...], seconds: float, task: Task
) -> dict[int, PackResult]:
    """What the pack took, by thread count."""
    timed: dict[int, PackResult] = {}
    counts = list(threads or (1,))
    # Without thread counts the first result tells how many cores there are.
    rounds = len(threads) or 2
    for count in counts:
        timed[count] = _time_once(archive, target, threads=count, seconds=seconds / rounds, task=task)
        task.advance(1 / rounds)
        cores = _cores(timed[count])
        if max(counts) > cores:
            raise InputError(f"{max(counts)} threads on {cores} cores", hint=f"give at most {cores}")
        if not threads and count == 1 and cores > 1:
            counts.append(min(_MOST_THREADS, cores))
    return timed


def _time_once(archive: Path, target: Target, *, threads: int, seconds: float, task: Task) -> PackResult:
    result = run_pack(
        archive,
        threads=threads,
        seconds=seconds,
        target=target,
        silence_seconds=_SILENCE_SECONDS,
        on_running=lambda models, passed: task.advance(
            0, note=f"threads: {threads}, {models} models, {passed:.0f} of {seconds:.0f} s"
        ),
    )
    found = len(result.medians_ms)
    if found < LEAST_MODELS:
        raise PrivynetError(
            f"{found} models were timed in {seconds:.0f} s, at least {LEAST_MODELS} are needed",
            hint="give more --seconds",
        )
    return result


def _cores(result: PackResult) -> int:
    usable = result.machine.get("affinity")
    return len(usable) if usable else int(result.machine.get("cpus") or 1)


def _columns(kernels: Mapping[str, Any], result: PackResult) -> tuple[list[Any], list[float]]:
    """The kernels of the models that were timed, and their times."""
    return [kernels[name] for name in result.medians_ms], list(result.medians_ms.values())


def _profile(
    name: str,
    on: str,
    like: DeviceProfile | None,
    timed: Mapping[int, PackResult],
    fits: Mapping[int, LatencyFit],
) -> DeviceProfile:
    first = next(iter(timed.values()))
    machine = first.machine
    processor = str(machine.get("processor") or machine["architecture"])
    seen = f"seen by the measuring agent on {machine['system']}"
    fastest = min(timed, key=lambda count: sum(timed[count].medians_ms.values()))
    memory = machine.get("memory_mb") or (like.memory_mb if like else None)
    if memory is None:
        raise PrivynetError(
            "the target does not say how much memory it has", hint="name a profile with --like"
        )
    threads = like.threads if like and like.threads in timed else fastest
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "title": f"{processor}, calibrated",
        "class": like.device_class if like else ("phone" if on.startswith("adb:") else "board"),
        "core_type": processor,
        "runtime": f"ONNX Runtime {machine['onnxruntime']}, CPU execution provider",
        "cores": _figure(_cores(first), "cores", seen),
        "memory_mb": _figure(round(memory), "MB", seen),
        "threads": _figure(threads, "threads", "the faster of those that were timed"),
        "latency": {
            "core_family": processor,
            "channel_block": _figure(
                next(iter(fits.values())).channel_block,
                "channels",
                "the one of 1, 4, 8, 16 that predicts models left out best",
            ),
            "float32": {str(count): _table(fit) for count, fit in fits.items()},
        },
    }
    if like is not None:
        document["limits"] = like.document().get("limits", {})
    return DeviceProfile.model_validate(document)


def _table(fit: LatencyFit) -> dict[str, Any]:
    source = f"privynet calibrate: non-negative fit to {len(fit.ratios)} micro-models"
    left_out = f"{source}, each left out in one of ten folds"
    error = _error(fit)
    low, high = fit.interval
    return {
        **{feature: _figure(value, FEATURES[feature], source) for feature, value in fit.coefficients.items()},
        **{f"{key}_error": _figure(error[key], "1", left_out) for key in ("median", "p90", "max")},
        "model_factor": {
            **_figure(1.0, "1", f"{left_out}; measured over predicted, 5 % to 95 % quantile"),
            "low": min(1.0, _rounded(low)),
            "high": max(1.0, _rounded(high)),
        },
    }


def _figure(value: float, unit: str, source: str, kind: Literal["measured"] = "measured") -> dict[str, Any]:
    return {"value": _rounded(value), "unit": unit, "source": source, "kind": kind}


def _rounded(value: float) -> float:
    """To five digits: more says nothing."""
    return float(f"{value:.5g}")
