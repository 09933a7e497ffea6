"""Checking an artifact: digests, the graph against the manifest, the self-test, parity with torch."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ..artifacts import Artifact
from ..encoders.spec import EncoderSpec
from ..errors import NegativeResult
from ..progress import SILENT, Progress
from .export import synthetic_images

_PARITY_SEED = 1
"""Other images than the export's own check has seen."""


def verify(
    artifact: Path,
    *,
    weights: str | None = None,
    allowed_code: Collection[str] = (),
    without_torch: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Check an artifact and say what was found; ``findings`` is empty when it is sound.

    With ``without_torch`` the encoder is not rebuilt from its backbone, and ``parity`` is ``"not_run"``.

    Raises:
        InputError: ``artifact`` is none, or the backbone's weights are not to be had.
        NegativeResult: a member is missing, extra, or has another digest than the manifest says.
    """
    with progress.task("verify", 3) as task:
        opened = Artifact.open(artifact)
        task.advance(note="self-test")
        findings = _check_spec(opened) + _check_selftest(opened)
        task.advance(note="parity")
        parity: dict[str, float] | str = "not_run"
        if not without_torch and not findings:
            error, allowed = _parity(opened, weights, allowed_code)
            parity = {"max_abs_error": error}
            if not error <= allowed:
                findings.append(_finding("parity", "encoder.onnx", f"differs from torch by {error:.3g}"))
        task.advance()
    return {
        "artifact": str(artifact),
        "files": {name: info.model_dump() for name, info in opened.manifest.files.items()},
        "parity": parity,
        "findings": findings,
    }


def _finding(code: str, file: str, message: str) -> dict[str, str]:
    return {"code": code, "severity": "error", "file": file, "message": message}


def _check_spec(artifact: Artifact) -> list[dict[str, str]]:
    spec = EncoderSpec.from_document(artifact.spec, source="encoder.json")
    manifest = artifact.manifest
    told = {
        "digest": (spec.digest, manifest.spec_digest),
        "input size": (spec.input_size, manifest.input.shape[1]),
        "number of channels": (len(spec.channels), manifest.output.shape[1]),
    }
    return [
        _finding("spec", "encoder.json", f"{what} is {own}, the manifest says {other}")
        for what, (own, other) in told.items()
        if own != other
    ]


def _check_selftest(artifact: Artifact) -> list[dict[str, str]]:
    session = artifact.session()
    try:
        with np.load(artifact.path / "selftest.npz", allow_pickle=False) as archive:
            images, wanted, tolerance = archive["images"], archive["features"], float(archive["tolerance"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise NegativeResult(f"selftest.npz of {artifact.path} cannot be read: {error}") from error
    size = session.input_size
    fits = images.dtype == np.uint8 and images.shape[1:] == (size, size, 3) and wanted.dtype == np.float32
    if not fits or wanted.shape != (len(images), *session.feature_shape):
        return [_finding("selftest", "selftest.npz", "has other shapes or types than the graph")]
    off = float(np.abs(session.encode(images) - wanted).max(initial=0))
    allowed = tolerance * max(1.0, float(np.abs(wanted).max(initial=0)))
    if not off <= allowed:
        return [
            _finding("selftest", "encoder.onnx", f"self-test is off by {off:.3g} (allowed {allowed:.3g})")
        ]
    return []


def _parity(artifact: Artifact, weights: str | None, allowed_code: Collection[str]) -> tuple[float, float]:
    from ..encoders.encoder import build_encoder
    from .onnx_file import MAX_ABSOLUTE_ERROR

    spec = EncoderSpec.from_document(artifact.spec, source="encoder.json")
    encoder = build_encoder(spec, weights=weights, allowed_code=allowed_code)
    images = synthetic_images(spec.input_size, seed=_PARITY_SEED)
    wanted = encoder.encode(images)
    error = float(np.abs(artifact.session().encode(images) - wanted).max(initial=0))
    return error, MAX_ABSOLUTE_ERROR * max(1.0, float(np.abs(wanted).max(initial=0)))
