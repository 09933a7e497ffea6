"""Checking an artifact: digests, signature, the graph by its looks, what it does, parity with torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import Artifact, BrokenArtifact, Manifest, PublicKey
from ..encoders.spec import EncoderSpec
from ..errors import InputError, one_line
from ..progress import SILENT, Progress
from .agreement import compare
from .behaviour import faults_when_run
from .export import spec_inputs
from .formats import NOT_COMPARED
from .graph_checks import graph_faults
from .on_target import selftest_there
from .probes import probes, varied_images
from .selftest import BadSelfTest, read_selftest
from .shipped_projection import shipped_projection

_PARITY_SEED = 1
"""Other images than the export's own check has seen."""

Finding = dict[str, str]


def verify(
    artifact: Path,
    *,
    key: Path | None = None,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | None = None,
    allowed_code: Collection[str] = (),
    without_torch: bool = False,
    on: str | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Check an artifact, a folder or a zip, and say what was found; no finding is an error when it is
    sound.

    A check runs only where those before it found nothing, so a graph that does not look right is not loaded.
    With ``key``, a file with a public key, the artifact must be signed by its owner. A projection's matrix is
    the one in the graph, known by its digest in the spec, unless ``projection_weights`` is given. With
    ``without_torch`` the encoder is not rebuilt from its backbone, and ``parity`` is ``"not_run"``. The
    self-test is run on ``on``, too, a target of ``bench``; ``measured`` says how far off it is there.

    ``signature`` in the result is ``None`` where the artifact could not be opened, else ``state``
    (``unsigned``, ``not_checked`` without ``key``, ``valid``, ``other_key`` or ``wrong``) and ``key``, the
    fingerprint of the signer's.

    Raises:
        InputError: ``artifact`` is none, ``key`` is none, or the backbone's weights are not to be had.
        PrivynetError: ``on`` cannot be reached, or lacks what is needed.
    """
    trusted = None if key is None else PublicKey.read(key)
    with progress.task("verify", 5) as task:
        try:
            opened = Artifact.open(artifact)
        except BrokenArtifact as broken:
            findings = [_finding("integrity", fault.file, fault.reason) for fault in broken.faults]
            return _result(artifact, broken.manifest, findings)
        signature = _signature(opened, trusted)
        findings = _signature_findings(signature, trusted)
        task.advance(note="graph")
        spec, wrong = _read_spec(opened)
        findings = findings or [
            _finding("graph", "encoder.onnx", reason)
            for reason in graph_faults(opened.model, opened.manifest)
        ]
        findings = findings or wrong or _selftest_findings(opened)
        task.advance(note="self-test")
        findings = findings or [_finding(*fault) for fault in faults_when_run(opened)]
        task.advance(note="parity")
        parity: dict[str, float] | str = "not_run"
        if spec is not None and not findings and not without_torch:
            projection = projection_weights or shipped_projection(opened.model, spec)
            parity, findings = _check_parity(opened, spec, weights, adapted_weights, projection, allowed_code)
        task.advance(note="target")
        measured: list[dict[str, Any]] = []
        if on is not None and not findings:
            measured, findings = _check_there(opened, on)
        task.advance()
    findings += _unchecked(opened.manifest)
    return _result(
        artifact,
        opened.manifest,
        findings,
        spec=spec,
        signature=signature,
        parity=parity,
        measured=measured,
    )


def _result(
    artifact: Path,
    manifest: Manifest | None,
    findings: list[Finding],
    *,
    spec: EncoderSpec | None = None,
    signature: dict[str, str | None] | None = None,
    parity: dict[str, float] | str = "not_run",
    measured: Collection[dict[str, Any]] = (),
) -> dict[str, Any]:
    sealed = {} if manifest is None else {"artifact": manifest.digest}
    return {
        "artifact": str(artifact),
        "files": {} if manifest is None else {name: f.model_dump() for name, f in manifest.files.items()},
        "signature": signature,
        "parity": parity,
        "measured": list(measured),
        "runtimes": {}
        if manifest is None
        else {name: found.model_dump(mode="json") for name, found in manifest.runtimes.items()},
        "findings": findings,
        "inputs": {**sealed, **({} if spec is None else spec_inputs(spec))},
    }


def _finding(code: str, file: str, message: str, *, severity: str = "error") -> Finding:
    shown = one_line(" ".join(message.split()), most=300)
    return {"code": code, "severity": severity, "file": one_line(file, most=100), "message": shown}


def _unchecked(manifest: Manifest) -> list[Finding]:
    """Warnings of the members that hold the encoder and of which the digest alone is looked at."""
    message = "its digest alone was checked: nothing was compared with encoder.onnx"
    return [
        _finding("not_compared", name, message, severity="warning")
        for name in sorted(manifest.files.keys() & NOT_COMPARED)
    ]


def _signature(artifact: Artifact, trusted: PublicKey | None) -> dict[str, str | None]:
    signature = artifact.signature
    if signature is None:
        return {"state": "unsigned", "key": None}
    if not signature.holds(artifact.manifest_bytes):
        state = "wrong"
    elif trusted is None:
        state = "not_checked"
    else:
        state = "valid" if signature.public_key == trusted else "other_key"
    return {"state": state, "key": signature.public_key.fingerprint}


def _signature_findings(signature: dict[str, str | None], trusted: PublicKey | None) -> list[Finding]:
    reasons = {
        "wrong": "the signature is not one of this manifest",
        "other_key": f"signed with {signature['key']}, not with the key that was given",
    }
    if trusted is not None:
        reasons["unsigned"] = "is not signed"
    reason = reasons.get(str(signature["state"]))
    return [] if reason is None else [_finding("signature", "manifest.sig", reason)]


def _read_spec(artifact: Artifact) -> tuple[EncoderSpec | None, list[Finding]]:
    """The spec where there is one, and where it and the manifest differ."""
    try:
        spec = EncoderSpec.from_document(artifact.spec, source="encoder.json")
    except InputError as error:
        return None, [_finding("spec", "encoder.json", error.message)]
    if spec != spec.for_shipping():
        return spec, [_finding("spec", "encoder.json", "names files of the machine that it was written on")]
    manifest = artifact.manifest
    told = {
        "digest": (spec.digest, manifest.spec_digest),
        "input shape": ((1, spec.input_size, spec.input_size, 3), manifest.input.shape),
        "number of channels": (spec.outputs, manifest.feature_shape[0]),
        "payload": (spec.payload, manifest.payload),
        "noise_std": (spec.noise_std, manifest.noise_std),
    }
    return spec, [
        _finding("spec", "encoder.json", f"{what} is {own}, the manifest says {other}")
        for what, (own, other) in told.items()
        if own != other
    ]


def _selftest_findings(artifact: Artifact) -> list[Finding]:
    try:
        read_selftest(artifact.folder / "selftest.npz", artifact.manifest)
    except BadSelfTest as error:
        return [_finding("selftest", "selftest.npz", str(error))]
    return []


def _check_there(artifact: Artifact, on: str) -> tuple[list[dict[str, Any]], list[Finding]]:
    manifest = artifact.manifest
    rows = read_selftest(artifact.folder / "selftest.npz", manifest)
    found = selftest_there(artifact.model, rows, manifest.payload, in_int8=manifest.in_int8, on=on)
    return [found.document], [] if found.fault is None else [_finding("target", "encoder.onnx", found.fault)]


def _check_parity(
    artifact: Artifact,
    spec: EncoderSpec,
    weights: str | None,
    adapted_weights: str | None,
    projection_weights: str | NDArray[np.float32] | None,
    allowed_code: Collection[str],
) -> tuple[dict[str, float] | str, list[Finding]]:
    from ..encoders.building import build_encoder
    from .int8 import int8_session

    encoder = build_encoder(
        spec,
        weights=weights,
        adapted_weights=adapted_weights,
        projection_weights=projection_weights,
        allowed_code=allowed_code,
    )
    session = artifact.session()
    images, noise = probes(
        spec.input_size, encoder.feature_shape if encoder.noise_std else None, seed=_PARITY_SEED
    )
    varied = varied_images(spec.input_size, seed=_PARITY_SEED)
    images = np.concatenate([images, varied])
    if noise is not None:
        noise = np.concatenate([noise, np.zeros((len(varied), *noise.shape[1:]), np.float32)])
    if encoder.feature_shape != session.feature_shape:
        message = f"gives features {session.feature_shape}, torch gives {encoder.feature_shape}"
        return "not_run", [_finding("parity", "encoder.onnx", message)]
    # Torch computes in float32: integers are made anew from the spec's grids.
    exact = int8_session(encoder) if spec.int8 else encoder
    wanted = exact.send(images, noise)
    found = compare(session.send(images, noise), wanted, spec.payload)
    findings = [] if found.holds else [_finding("parity", "encoder.onnx", f"differs from torch by {found}")]
    # JSON has no infinity, which outputs that are not finite give.
    return {"max_abs_error": found.max_abs_error} if np.isfinite(found.max_abs_error) else "not_run", findings
