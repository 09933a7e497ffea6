"""Checking an artifact: digests, the graph against the manifest, the self-test, parity with torch."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import Artifact, BrokenArtifact, Manifest, OrtEncoder
from ..encoders.spec import EncoderSpec
from ..errors import InputError
from ..progress import SILENT, Progress
from .agreement import TOLERANCE, compare
from .export import spec_inputs
from .probes import probes
from .shipped_projection import shipped_projection

if TYPE_CHECKING:
    from ..encoders import Encoder

_PARITY_SEED = 1
"""Other images than the export's own check has seen."""

Finding = dict[str, str]


def verify(
    artifact: Path,
    *,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | None = None,
    allowed_code: Collection[str] = (),
    without_torch: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Check an artifact and say what was found; ``findings`` is empty when it is sound.

    A check runs only where those before it found nothing. A projection's matrix is the one in the graph,
    known by its digest in the spec, unless ``projection_weights`` is given. With ``without_torch`` the
    encoder is not rebuilt from its backbone, and ``parity`` is ``"not_run"``.

    Raises:
        InputError: ``artifact`` is none, or the backbone's weights are not to be had.
    """
    with progress.task("verify", 3) as task:
        try:
            opened = Artifact.open(artifact)
        except BrokenArtifact as broken:
            return _result(artifact, broken.manifest, None, "not_run", _findings(broken))
        task.advance(note="self-test")
        spec, session, findings = _check_spec(opened)
        if session is not None and not findings:
            findings = _check_selftest(opened, session) or _check_noise(session)
        task.advance(note="parity")
        parity: dict[str, float] | str = "not_run"
        if spec is not None and session is not None and not findings and not without_torch:
            projection = projection_weights or shipped_projection(opened.model, spec)
            parity, findings = _check_parity(
                spec, session, weights, adapted_weights, projection, allowed_code
            )
        task.advance()
    return _result(artifact, opened.manifest, spec, parity, findings)


def _result(
    artifact: Path,
    manifest: Manifest | None,
    spec: EncoderSpec | None,
    parity: dict[str, float] | str,
    findings: list[Finding],
) -> dict[str, Any]:
    sealed = {} if manifest is None else {"artifact": manifest.digest}
    return {
        "artifact": str(artifact),
        "files": {} if manifest is None else {name: f.model_dump() for name, f in manifest.files.items()},
        "parity": parity,
        "findings": findings,
        "inputs": {**sealed, **({} if spec is None else spec_inputs(spec))},
    }


def _finding(code: str, file: str, message: str) -> Finding:
    return {"code": code, "severity": "error", "file": file, "message": message}


def _findings(broken: BrokenArtifact) -> list[Finding]:
    return [_finding("integrity", fault.file, fault.reason) for fault in broken.faults]


def _check_spec(artifact: Artifact) -> tuple[EncoderSpec | None, OrtEncoder | None, list[Finding]]:
    """The spec and the session where they can be had, and where spec, manifest and graph differ."""
    try:
        session = artifact.session()
    except BrokenArtifact as broken:
        return None, None, [_finding("graph", fault.file, fault.reason) for fault in broken.faults]
    except InputError as error:
        return None, None, [_finding("graph", "encoder.onnx", error.message)]
    try:
        spec = EncoderSpec.from_document(artifact.spec, source="encoder.json")
    except InputError as error:
        return None, session, [_finding("spec", "encoder.json", error.message)]
    manifest = artifact.manifest
    told = {
        "digest": (spec.digest, manifest.spec_digest),
        "input size": (spec.input_size, manifest.input.shape[1]),
        "number of channels": (spec.outputs, manifest.feature_shape[0]),
        "payload": (spec.payload, manifest.payload),
        "noise_std": (spec.noise_std, manifest.noise_std),
    }
    findings = [
        _finding("spec", "encoder.json", f"{what} is {own}, the manifest says {other}")
        for what, (own, other) in told.items()
        if own != other
    ]
    return spec, session, findings


def _check_selftest(artifact: Artifact, session: OrtEncoder) -> list[Finding]:
    names = ["images", session.payload.output_name]
    names += ["noise"] * (session.noise is not None) + ["tolerance"] * (not session.payload.quantised)
    try:
        with np.load(artifact.path / "selftest.npz", allow_pickle=False) as archive:
            if sorted(archive.files) != sorted(names):
                message = f"holds {', '.join(archive.files)[:200]}, expected {', '.join(names)}"
                return [_finding("selftest", "selftest.npz", message)]
            rows: dict[str, NDArray[Any]] = {name: archive[name] for name in names}
            tolerance = float(rows.pop("tolerance", np.float32(0)))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        return [_finding("selftest", "selftest.npz", f"cannot be read: {reason}")]
    images, wanted, noise = rows["images"], rows[session.payload.output_name], rows.get("noise")
    try:
        got = session.send(images, noise)
    except ValueError as error:
        return [_finding("selftest", "selftest.npz", str(error))]
    if not len(images) or (got.shape, got.dtype) != (wanted.shape, wanted.dtype):
        return [_finding("selftest", "selftest.npz", "has other shapes or types than the graph")]
    # A forged tolerance must not let everything through.
    found = compare(got, wanted, session.payload, tolerance=min(tolerance, TOLERANCE))
    return [] if found.holds else [_finding("selftest", "encoder.onnx", f"self-test is off by {found}")]


def _check_noise(session: OrtEncoder) -> list[Finding]:
    """Whether the noise that is fed arrives with the standard deviation that the manifest names."""
    if session.noise is None:
        return []
    images, noise = probes(session.input_size, session.feature_shape, seed=_PARITY_SEED)
    assert noise is not None
    payload = session.payload
    sent, silent = session.send(images, noise), session.send(images)
    added = payload.decode(sent, session.feature_shape) - payload.decode(silent, session.feature_shape)
    error = np.abs(added - session.noise_std * noise)
    # Each of the two is off by half a step; what was clipped says nothing.
    received = payload.decode(sent, session.feature_shape)
    allowed = TOLERANCE * max(1.0, float(np.abs(received).max(initial=0)))
    if payload.quantised:
        allowed += payload.scale
        for integers in (payload.unpack(one, session.feature_shape) for one in (sent, silent)):
            error = np.where((integers == 0) | (integers == payload.top), 0, error)
    off = float(error.max(initial=0))
    if off <= allowed:
        return []
    message = f"noise of standard deviation {session.noise_std:g} arrives changed by up to {off:.3g}"
    return [_finding("noise", "encoder.onnx", message)]


def _check_parity(
    spec: EncoderSpec,
    session: OrtEncoder,
    weights: str | None,
    adapted_weights: str | None,
    projection_weights: str | NDArray[np.float32] | None,
    allowed_code: Collection[str],
) -> tuple[dict[str, float] | str, list[Finding]]:
    from ..encoders.building import build_encoder

    encoder = build_encoder(
        spec,
        weights=weights,
        adapted_weights=adapted_weights,
        projection_weights=projection_weights,
        allowed_code=allowed_code,
    )
    images, noise = probes(
        spec.input_size, encoder.feature_shape if encoder.noise_std else None, seed=_PARITY_SEED
    )
    if encoder.feature_shape != session.feature_shape:
        message = f"gives features {session.feature_shape}, torch gives {encoder.feature_shape}"
        return "not_run", [_finding("parity", "encoder.onnx", message)]
    wanted = _rebuilt(encoder).send(images, noise) if spec.int8 else encoder.send(images, noise)
    found = compare(session.send(images, noise), wanted, spec.payload)
    findings = [] if found.holds else [_finding("parity", "encoder.onnx", f"differs from torch by {found}")]
    # JSON has no infinity, which outputs that are not finite give.
    return {"max_abs_error": found.max_abs_error} if np.isfinite(found.max_abs_error) else "not_run", findings


def _rebuilt(encoder: Encoder) -> OrtEncoder:
    """What the spec's integers give, exported anew: torch computes in float32."""
    from .int8 import write_int8
    from .int8.writing import open_session

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        write_int8(encoder, path)
        return open_session(encoder, path)
