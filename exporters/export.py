"""From an encoder spec to the artifact that ships."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import OrtEncoder, RunFolder, new_folder, read_document, seal
from ..encoders.spec import EncoderSpec
from ..errors import InputError
from ..progress import SILENT, Progress
from .readme import artifact_readme

if TYPE_CHECKING:
    from ..encoders import Encoder

INPUT_NAME = "images"
OUTPUT_NAME = "features"
SELFTEST_TOLERANCE = 1e-3
"""Absolute, for features of another processor; relative to the largest expected one if that is above 1."""

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
    allowed_code: Collection[str] = (),
    force: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write the artifact of a run's chosen encoder, or of a spec file, to the folder ``out``.

    Parity with torch is checked in ONNX Runtime before anything appears under its final name; ``seed`` draws
    the synthetic images of that check and of the self-test. The same spec and versions give the same bytes.

    Raises:
        InputError: ``subject`` is neither run nor spec, its weights are missing or others, or ``out`` exists.
        NegativeResult: ONNX Runtime gives other values than torch.
    """
    from ..encoders.encoder import build_encoder

    spec, limits = read_subject(subject)
    with progress.task("export", _STEPS) as task, new_folder(out, force=force) as folder:
        encoder = build_encoder(spec, weights=weights, allowed_code=allowed_code)
        task.advance(note="graph")
        written = write_onnx(encoder, folder / "encoder.onnx", seed=seed)
        task.advance(note="self-test")
        session = OrtEncoder.open(folder / "encoder.onnx", digest=spec.digest)
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
    }


def write_onnx(encoder: Encoder, path: Path, *, seed: int = 0) -> dict[str, Any]:
    """Write an encoder as ONNX with a static batch of one; returns what ``export_module`` does."""
    import torch

    from .onnx_file import export_module

    image = torch.from_numpy(synthetic_images(encoder.input_size, seed=seed)[:1])
    return export_module(encoder, image, path, input_name=INPUT_NAME, output_name=OUTPUT_NAME)


def synthetic_images(size: int, *, seed: int) -> NDArray[np.uint8]:
    """Images that are nobody's: noise, black, white, one pixel, a ramp; uint8 (5, size, size, 3)."""
    images = np.zeros((5, size, size, 3), np.uint8)
    images[0] = np.random.default_rng(seed).integers(0, 256, images[0].shape, dtype=np.uint8)
    images[2] = 255
    images[3, size // 2, size // 2] = 255
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    images[4, ..., 0], images[4, ..., 1], images[4, ..., 2] = ramp[:, None], ramp[None, :], ramp[::-1, None]
    return images


def _write_selftest(path: Path, session: OrtEncoder, *, seed: int) -> None:
    images = synthetic_images(session.input_size, seed=seed)
    features = session.encode(images)
    np.savez(path, images=images, features=features, tolerance=np.float32(SELFTEST_TOLERANCE))


def _manifest_body(encoder: Encoder, written: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    costs = asdict(encoder.costs)
    del costs["kernels"]
    return {
        "spec_digest": encoder.digest,
        "precision": "fp32",
        "input": {
            "name": INPUT_NAME,
            "shape": [1, encoder.input_size, encoder.input_size, 3],
            "dtype": "uint8",
        },
        "output": {"name": OUTPUT_NAME, "shape": [1, *encoder.feature_shape], "dtype": "float32"},
        "opset": written["opset"],
        "parity": {key: written[key] for key in ("max_abs_error", "max_abs_output")},
        "costs": {**costs, "storage_kb": written["bytes"] / 1024},
        "limits": dict(limits),
    }
