"""What needs more than one room: search with bench and report, bench with prediction, audit."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, unknown
from ..progress import SILENT, Progress
from .subjects import open_encoder, read_spec

if TYPE_CHECKING:
    from ..artifacts import RunFolder
    from ..device_profiles import DeviceProfile
    from ..encoders import EncoderSpec


def search_and_report(
    *, device: str, out: Path, bench: bool = True, progress: Progress = SILENT, **options: Any
) -> dict[str, Any]:
    """``privynet.search.search``, then the chosen encoder's latency on this host, then ``RUN/report.html``.

    ``options`` are those of ``search``; ``bench=False`` measures nothing. The result is the search's, with
    ``bench`` (``None`` where nothing was measured) and ``report``.
    """
    from ..artifacts import RunFolder, file_digest, read_document, write_document
    from ..search import search
    from .report import write_report

    result = search(device=device, out=out, progress=progress, **options)
    run = RunFolder.open(out)
    measured = None
    if bench and result["encoder"] is not None:
        measured = read_document(run.bench, "bench") if run.bench.exists() else None
        if measured is None or measured["model_sha256"] != file_digest(run.export):
            measured = _bench_winner(run, device, result, progress=progress)
            write_document(run.bench, "bench", measured)
    write_report(run)
    return {**result, "bench": measured, "report": str(run.report)}


def _bench_winner(
    run: RunFolder, device: str, result: Mapping[str, Any], *, progress: Progress
) -> dict[str, Any]:
    """The chosen encoder's latency on this host, beside its prediction for the device."""
    from ..device_profiles import bench, load_profile

    profile = load_profile(device)
    measured = bench(run.export, threads=host_threads(profile.threads), progress=progress)
    limit = result["limits"].get("latency_ms")
    predicted = result["predicted_ms"]
    return {
        **measured,
        "predicted_ms": _predicted(predicted["ms"], predicted["low"], predicted["high"], profile),
        "limit_ms": limit["limit"] if limit else None,
    }


def resolve_limits(limits: Mapping[str, float], device: str) -> dict[str, Any]:
    """Every limit of a search, {metric: {limit, source}}: the user's, the profile's, or the default."""
    from ..device_profiles import load_profile
    from ..search import Limits

    document: dict[str, Any] = Limits.resolve(limits, load_profile(device)).document()
    return document


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
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """``privynet.device_profiles.bench`` of an artifact's encoder or an ONNX file.

    With ``device``, the artifact's predicted latency there (``predicted_ms``: value, low, high) and the
    profile's limit stand beside it.
    """
    from ..artifacts import Artifact
    from ..device_profiles import bench, load_profile

    file = Artifact.open(subject).model if subject.is_dir() else subject
    predicted = limit = None
    if device is not None:
        if not subject.is_dir():
            raise InputError(
                f"--device needs an artifact, {subject} is none", hint="privynet export writes one"
            )
        profile = load_profile(device)
        predicted = predict_latency(read_spec(subject), device)
        limit = profile.limits.get("latency_ms")
    measured = bench(file, threads=threads, on=on, sessions=sessions, progress=progress)
    return {
        **measured,
        "predicted_ms": predicted,
        "limit_ms": limit,
        "inputs": {"model": measured["model_sha256"]},
    }


def predict_latency(spec: EncoderSpec, device: str) -> dict[str, Any]:
    """The predicted latency on a target: ``value``, ``low``, ``high`` in ms, from shapes alone."""
    from ..device_profiles import load_profile
    from ..encoders import Splitter, load_backbone, parse_backbone

    name = parse_backbone(spec.backbone)
    if name.is_factory:
        raise InputError(
            f"the encoder's backbone {spec.backbone} is code of yours", hint="leave out --device"
        )
    splitter = Splitter(load_backbone(name, shapes_only=True), spec.input_size)
    profile = load_profile(device)
    predicted = profile.predict_latency_ms(splitter.costs(spec.cut, spec.channels))
    return _predicted(predicted.ms, predicted.low, predicted.high, profile)


def _predicted(ms: float, low: float, high: float, profile: DeviceProfile) -> dict[str, Any]:
    """A bench's ``predicted_ms``."""
    return {
        "value": ms,
        "low": low,
        "high": high,
        "estimated": True,
        "device": profile.name,
        "threads": profile.threads,
    }


def audit_subject(
    subject: Path,
    *,
    data: str,
    attacks: Sequence[str] = (),
    image_size: int = 64,
    weights: str | None = None,
    allowed_code: Collection[str] = (),
    progress: Progress = SILENT,
    **options: Any,
) -> dict[str, Any]:
    """``privynet.leakage.audit`` of a run's, a spec's or an artifact's encoder, with its ``options``."""
    from ..data import open_data
    from ..leakage import ATTACKS, audit

    known = {attack.name: attack for attack in ATTACKS}
    for name in attacks:
        if name not in known:
            raise unknown("attack", name, known)
    encoder = open_encoder(subject, weights=weights, allowed_code=allowed_code)
    source = open_data(data, image_size=image_size, progress=progress)
    chosen = [known[name] for name in dict.fromkeys(attacks)] or list(ATTACKS)
    result = audit(encoder, data=source, attacks=chosen, images=False, progress=progress, **options)
    return result.document()
