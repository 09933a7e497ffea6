"""Checking an artifact: digests, signature, the graph by its looks, what it does, parity with torch."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..artifacts import Artifact, BrokenArtifact, Manifest, PublicKey
from ..device_profiles import open_target
from ..encoders.spec import EncoderSpec
from ..errors import InputError
from ..progress import SILENT, Progress
from .behaviour import behaviour
from .export import spec_inputs
from .findings import Finding, errors, finding, warning
from .formats import NOT_COMPARED
from .graph_checks import graph_faults
from .on_target import selftest_there
from .precision import precision_of
from .rebuilding import check_parity, fed_images
from .selftest import BadSelfTest, read_selftest


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
    seed: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Check an artifact, a folder or a zip, and say what was found; no finding is an error when it is
    sound.

    A check runs only where those before it found nothing, so a graph that does not look right is not loaded.
    With ``key``, a file with a public key, the artifact must be signed by its owner. A projection's matrix is
    the one in the graph, known by its digest in the spec, unless ``projection_weights`` is given. With
    ``without_torch`` the encoder is not rebuilt from its backbone, and ``parity`` is ``"not_run"``. The
    self-test is run on ``on``, too, a target of ``bench``; ``measured`` says how far off it is there.

    ``seed`` draws the images on which it is compared with torch; by default they are drawn anew each time, so
    that no forger can know them. Where the artifact was made by the versions that are installed, it is also
    exported again: ``parity["same_bytes"]`` says whether that gives the same graph, ``None`` where other
    versions made it.

    ``signature`` in the result is ``None`` where the artifact could not be opened, else ``state``
    (``unsigned``, ``not_checked`` without ``key``, ``valid``, ``other_key`` or ``wrong``) and ``key``, the
    fingerprint of the signer's.

    Raises:
        InputError: ``artifact`` is none, ``key`` is none, or the backbone's weights are not to be had.
        PrivynetError: ``on`` cannot be reached, or lacks what is needed.
    """
    trusted = None if key is None else PublicKey.read(key)
    if on is not None:
        open_target(on)  # says what is wrong with its name before anything is checked
    seed = secrets.randbelow(2**31) if seed is None else seed
    with progress.task("verify", 5) as task:
        try:
            opened = Artifact.open(artifact)
        except BrokenArtifact as broken:
            findings = [finding("integrity", fault.file, fault.reason) for fault in broken.faults]
            return _result(artifact, broken.manifest, findings)
        signature = _signature(opened, trusted)
        findings = _signature_findings(signature, trusted)
        task.advance(note="graph")
        spec, wrong = _read_spec(opened)
        findings = findings or [
            finding("graph", "encoder.onnx", reason) for reason in graph_faults(opened.model, opened.manifest)
        ]
        findings = findings or wrong or _selftest_findings(opened)
        task.advance(note="self-test")
        sent = None
        if not findings:
            fed = fed_images(opened.manifest, seed)
            found = behaviour(opened, fed.images, fed.noise)
            sent, findings = found.sent, [finding(*fault) for fault in found.faults]
        task.advance(note="parity")
        parity: dict[str, Any] | str = "not_run"
        if spec is not None and sent is not None and not without_torch:
            parity, findings = check_parity(
                opened,
                spec,
                fed,
                sent,
                weights=weights,
                adapted_weights=adapted_weights,
                projection_weights=projection_weights,
                allowed_code=allowed_code,
            )
        task.advance(note="target")
        measured: list[dict[str, Any]] = []
        if on is not None and sent is not None and not errors(findings):
            measured, wrong = _check_there(opened, on)
            findings += wrong
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
    parity: dict[str, Any] | str = "not_run",
    measured: Collection[dict[str, Any]] = (),
) -> dict[str, Any]:
    sealed = {} if manifest is None else {"artifact": manifest.digest}
    return {
        "artifact": str(artifact),
        "files": {} if manifest is None else {name: f.model_dump() for name, f in manifest.files.items()},
        "signature": signature,
        "precision": None if manifest is None else manifest.precision,
        "parity": parity,
        "measured": list(measured),
        "runtimes": {}
        if manifest is None
        else {name: found.model_dump(mode="json") for name, found in manifest.runtimes.items()},
        "findings": findings,
        "inputs": {**sealed, **({} if spec is None else spec_inputs(spec))},
    }


def _unchecked(manifest: Manifest) -> list[Finding]:
    """Warnings of the members that hold the encoder and of which the digest alone is looked at."""
    message = "its digest alone was checked: nothing was compared with encoder.onnx"
    return [warning("not_compared", name, message) for name in sorted(manifest.files.keys() & NOT_COMPARED)]


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
    return [] if reason is None else [finding("signature", "manifest.sig", reason)]


def _read_spec(artifact: Artifact) -> tuple[EncoderSpec | None, list[Finding]]:
    """The spec where there is one, and where it and the manifest differ."""
    try:
        spec = EncoderSpec.from_document(artifact.spec, source="encoder.json")
    except InputError as error:
        return None, [finding("spec", "encoder.json", error.message)]
    if spec != spec.for_shipping():
        return spec, [finding("spec", "encoder.json", "names files of the machine that it was written on")]
    manifest = artifact.manifest
    told = {
        "digest": (spec.digest, manifest.spec_digest),
        "input shape": ((1, spec.input_size, spec.input_size, 3), manifest.input.shape),
        "number of channels": (spec.outputs, manifest.feature_shape[0]),
        "precision": (precision_of(spec, None), manifest.precision),
        "payload": (spec.payload, manifest.payload),
        "noise_std": (spec.noise_std, manifest.noise_std),
    }
    return spec, [
        finding("spec", "encoder.json", f"{what} is {own}, the manifest says {other}")
        for what, (own, other) in told.items()
        if own != other
    ]


def _selftest_findings(artifact: Artifact) -> list[Finding]:
    try:
        read_selftest(artifact.folder / "selftest.npz", artifact.manifest)
    except BadSelfTest as error:
        return [finding("selftest", "selftest.npz", str(error))]
    return []


def _check_there(artifact: Artifact, on: str) -> tuple[list[dict[str, Any]], list[Finding]]:
    manifest = artifact.manifest
    rows = read_selftest(artifact.folder / "selftest.npz", manifest)
    found = selftest_there(artifact.model, rows, manifest.payload, in_int8=manifest.in_int8, on=on)
    return [found.document], [] if found.fault is None else [finding("target", "encoder.onnx", found.fault)]
