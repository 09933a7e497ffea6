"""An encoder timed, beside what was predicted for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..progress import SILENT, Progress
from .subjects import model_of, read_spec

if TYPE_CHECKING:
    from ..artifacts import RunFolder
    from ..device_profiles import DeviceProfile
    from ..device_profiles.profiles import Precision
    from ..encoders import EncoderSpec


def bench_run(
    run: RunFolder, device: str, result: Mapping[str, Any], *, progress: Progress
) -> dict[str, Any]:
    """The latency on this host of a run's chosen encoder, beside its prediction for the device."""
    from ..device_profiles import bench, load_profile

    profile = load_profile(device)
    measured = bench(run.export, threads=host_threads(profile.threads), progress=progress)
    limit = result["limits"].get("latency_ms")
    predicted = result["predicted_ms"]
    return {
        **measured,
        "predicted_ms": _predicted(predicted, profile, threads=profile.threads),
        "limit_ms": limit["limit"] if limit else None,
        "limit_threads": profile.threads,
    }


def host_threads(threads: int) -> int:
    """So many of a target's threads as this machine can run at once."""
    # macOS has no affinity.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(threads, usable))


def bench_subject(
    subject: Path,
    *,
    on: str = "local",
    threads: int = 1,
    sessions: int = 3,
    device: str | None = None,
    affinity: Sequence[int] | None = None,
    python: str | None = None,
    perf_test: Path | None = None,
    accept_new_host_key: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """``privynet.device_profiles.bench`` of an artifact's encoder or an ONNX file, on any target.

    With ``device``, the artifact's predicted latency there stands beside it (``predicted_ms``, as of
    :func:`predict_latency` for ``threads``), and the profile's limit (``limit_ms``), which is for
    ``limit_threads``. ``precision`` is the artifact's then.
    """
    from ..artifacts import looks_like_artifact
    from ..device_profiles import bench, load_profile

    predicted = limit = limit_threads = precision = None
    if device is not None:
        if not looks_like_artifact(subject):
            raise InputError(
                f"--device needs an artifact, {subject} is none", hint="privynet export writes one"
            )
        profile = load_profile(device)
        spec = read_spec(subject)
        precision = "int8" if spec.int8 else "float32"
        predicted = predict_latency(spec, profile, threads=threads)
        limit, limit_threads = profile.limits.get("latency_ms"), profile.threads
    with model_of(subject) as file:
        measured = bench(
            file,
            threads=threads,
            on=on,
            sessions=sessions,
            affinity=affinity,
            python=python,
            perf_test=perf_test,
            accept_new_host_key=accept_new_host_key,
            progress=progress,
        )
    return {
        **measured,
        "precision": precision,
        "predicted_ms": predicted,
        "limit_ms": limit,
        "limit_threads": limit_threads,
        "inputs": {"model": measured["model_sha256"]},
    }


def predict_latency(spec: EncoderSpec, profile: DeviceProfile, *, threads: int) -> dict[str, Any]:
    """The predicted latency on a target: ``value``, ``low``, ``high`` in ms, from shapes alone.

    It is for ``threads`` where the profile has figures for so many, else for the profile's, and for the
    spec's precision, else for float32; ``threads`` and ``precision`` in the result say which. Raises
    ``InputError`` for a backbone that is the user's code.
    """
    from ..encoders import Splitter, load_backbone, parse_backbone

    name = parse_backbone(spec.backbone)
    if name.is_factory:
        raise InputError(
            f"the encoder's backbone {spec.backbone} is code of yours", hint="leave out --device"
        )
    splitter = Splitter(load_backbone(name, shapes_only=True), spec.input_size)
    outputs = spec.projection.outputs if spec.projection else None
    costs = splitter.costs(spec.cut, spec.channels, outputs=outputs)
    latency = profile.latency
    precision: Precision = "int8" if spec.int8 and latency.threads_known("int8") else "float32"
    threads = threads if threads in latency.threads_known(precision) else profile.threads
    if threads not in latency.threads_known(precision):
        precision = "float32"
    predicted = profile.predict_latency_ms(costs, threads=threads, precision=precision)
    return {**_predicted(asdict(predicted), profile, threads=threads), "precision": precision}


def _predicted(prediction: Mapping[str, Any], profile: DeviceProfile, *, threads: int) -> dict[str, Any]:
    """A bench's ``predicted_ms``, of a ``LatencyPrediction``'s fields."""
    return {
        "value": prediction["ms"],
        "low": prediction["low"],
        "high": prediction["high"],
        "estimated": prediction["estimated"],
        "device": profile.name,
        "threads": threads,
        "precision": "float32",
    }
