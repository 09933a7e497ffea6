"""From an encoder spec to the artifact that ships."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifacts import OrtEncoder, RunFolder, new_folder, read_document, seal
from ..encoders.spec import EncoderSpec
from ..errors import InputError
from ..progress import SILENT, Progress
from .agreement import TOLERANCE
from .probes import probes
from .readme import artifact_readme

if TYPE_CHECKING:
    from ..encoders import Encoder

INPUT_NAME = "images"
NOISE_NAME = "noise"

_STEPS = 4


def read_subject(subject: Path) -> tuple[EncoderSpec, Mapping[str, Any]]:
    """The spec that a run folder or a spec file holds, and the run's limits (metric: limit, value, source).

    Raises:
        InputError: ``subject`` is neither, or the run has found no encoder.
    """
    if not subject.is_dir():
        return EncoderSpec.read(subject), {}
    run = RunFolder.open(subject)
    if not run.spec.exists():
        raise InputError(f"run {subject} has no encoder", hint="finish the search, or loosen its limits")
    result = read_document(run.result, "search-result") if run.result.exists() else {}
    return EncoderSpec.read(run.spec), result.get("limits", {})


def export(
    subject: Path,
    *,
    out: Path,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | None = None,
    allowed_code: Collection[str] = (),
    force: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write the artifact of a run's chosen encoder, or of a spec file, to the folder ``out``.

    Parity with torch is checked in ONNX Runtime before anything appears under its final name; ``seed`` draws
    the synthetic images and the noise of that check and of the self-test. The same spec and versions give the
    same bytes.

    Raises:
        InputError: ``subject`` is neither run nor spec, its weights, adapted weights or projection are
            missing or others, or ``out`` exists.
        NegativeResult: ONNX Runtime gives other values than torch.
    """
    from ..encoders.building import build_encoder

    spec, limits = read_subject(subject)
    with progress.task("export", _STEPS) as task, new_folder(out, force=force) as folder:
        encoder = build_encoder(
            spec,
            weights=weights,
            adapted_weights=adapted_weights,
            projection_weights=projection_weights,
            allowed_code=allowed_code,
        )
        task.advance(note="graph")
        written = write_onnx(encoder, folder / "encoder.onnx", seed=seed)
        task.advance(note="self-test")
        session = OrtEncoder.open(
            folder / "encoder.onnx",
            digest=spec.digest,
            payload=spec.payload,
            noise_std=spec.noise_std,
            feature_shape=encoder.feature_shape,
        )
        _write_selftest(folder / "selftest.npz", session, seed=seed)
        task.advance(note="manifest")
        spec.for_shipping().write(folder / "encoder.json")
        (folder / "README.md").write_text(artifact_readme(spec, encoder.feature_shape), encoding="utf-8")
        manifest = seal(folder, _manifest_body(encoder, written, limits))
        task.advance()
    return {
        "artifact": str(out),
        "files": {name: info.model_dump() for name, info in manifest.files.items()},
        "parity": manifest.parity,
        "findings": [],
        "inputs": spec_inputs(spec),
    }


def spec_inputs(spec: EncoderSpec) -> dict[str, str]:
    """The digests of what an export or a check was made from."""
    adapted = {} if spec.adapted is None else {"adapted_weights": spec.adapted.digest}
    projection = {} if spec.projection is None else {"projection_weights": spec.projection.digest}
    return {"spec": spec.digest, "weights": spec.weights_digest, **adapted, **projection}


def write_onnx(encoder: Encoder, path: Path, *, seed: int = 0) -> dict[str, Any]:
    """Write an encoder as ONNX with a static batch of one; returns what ``export_module`` does.

    Inputs ``images`` and, where noise is added, ``noise``; output ``features`` or, of integers, ``payload``.
    """
    import torch

    from .onnx_file import export_module

    if encoder.spec.int8 is not None:
        from .int8 import write_int8

        return write_int8(encoder, path, seed=seed)
    images, noise = probes(
        encoder.input_size, encoder.feature_shape if encoder.noise_std else None, seed=seed
    )
    arrays = (images,) if noise is None else (images, noise)
    checks = [[array[row : row + 1] for array in arrays] for row in range(len(images))]
    return export_module(
        encoder,
        [torch.from_numpy(one) for one in checks[0]],
        path,
        input_name=[INPUT_NAME, NOISE_NAME][: len(arrays)],
        output_name=encoder.payload.output_name,
        payload=encoder.payload,
        checks=checks,
    )


def _write_selftest(path: Path, session: OrtEncoder, *, seed: int) -> None:
    """Rows that belong together: an image, noise where it is added, and what must then be sent."""
    noise_shape = session.feature_shape if session.noise_std else None
    images, noise = probes(session.input_size, noise_shape, seed=seed)
    # A payload's integers have no tolerance to state: they may differ by one step.
    stated = {} if session.payload.quantised else {"tolerance": np.float32(TOLERANCE)}
    fed = {"images": images} if noise is None else {"images": images, "noise": noise}
    sent = {session.payload.output_name: session.send(images, noise)}
    np.savez(path, allow_pickle=False, **fed, **sent, **stated)


def _manifest_body(encoder: Encoder, written: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    costs = asdict(encoder.costs)
    del costs["kernels"]
    features, payload = encoder.feature_shape, encoder.payload
    noise = {"name": NOISE_NAME, "shape": [1, *features], "dtype": "float32"} if encoder.noise_std else None
    return {
        "spec_digest": encoder.digest,
        "precision": "fp32",
        "input": {
            "name": INPUT_NAME,
            "shape": [1, encoder.input_size, encoder.input_size, 3],
            "dtype": "uint8",
        },
        "noise": noise,
        "output": {
            "name": payload.output_name,
            "shape": [1, *payload.sent_shape(features)],
            "dtype": payload.dtype,
        },
        "feature_shape": list(features),
        "payload": payload.model_dump(),
        "noise_std": encoder.noise_std,
        "opset": written["opset"],
        "parity": {key: written[key] for key in ("max_abs_error", "max_abs_output")},
        "costs": {**costs, "storage_kb": written["bytes"] / 1024},
        "limits": dict(limits),
    }
