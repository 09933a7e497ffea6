"""From an encoder spec to the artifact that ships."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import Manifest, OrtEncoder, RunFolder, SigningKey, new_artifact, read_document, seal
from ..device_profiles import graph_costs, open_target
from ..encoders.spec import EncoderSpec
from ..errors import InputError, NegativeResult
from ..progress import SILENT, Progress
from .exported import open_exported
from .formats import Source, check_formats, converters, write_formats
from .graph_checks import graph_faults
from .on_target import measured_there, timing_findings
from .precision import Precision, accuracy_findings, in_precision, precision_of
from .probes import probes
from .readme import artifact_readme
from .runtimes import Support, check_for, check_runtime, support
from .selftest import write_selftest
from .selftest_images import SelfTest, selftest_images, selftest_warnings
from .tools import tool_versions
from .weights import write_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..encoders import Encoder
    from .int8 import Judge

INPUT_NAME = "images"
NOISE_NAME = "noise"

_STEPS = 6


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
    precision: Precision | None = None,
    calibration_images: NDArray[np.uint8] | None = None,
    judge: Judge | None = None,
    max_loss: float | None = None,
    on: str | None = None,
    formats: Collection[str] = (),
    for_runtime: str | None = None,
    with_weights: bool = False,
    selftest: SelfTest = "synthetic",
    data: str | None = None,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | None = None,
    allowed_code: Collection[str] = (),
    sign: Path | None = None,
    force: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write the artifact of a run's chosen encoder, or of a spec file, to ``out``: a folder, or one zip if it
    ends in ``.zip``.

    ``precision``: default that of the spec. int8 is calibrated on ``calibration_images``, uint8
    (n, H, H, 3), or has the grids of the spec; with ``judge``, the task score of what an encoder sends, and
    ``max_loss`` it is the first choice of float32 layers that loses no more. ``on``, a target of ``bench``:
    runs the self-test there, and times int8 relative to fp32, for the manifest. Findings say where int8 is
    slower, and where without ``max_loss`` it loses more than 0.01.

    ``formats``: what the encoder is to be there as beside ONNX, of ``formats.FORMATS``. ``for_runtime``: one
    of ``runtimes.RUNTIMES`` for which the graph is written, and which must take it. ``with_weights`` adds the
    encoder's tensors. With ``selftest="data"`` the self-test holds images of ``data``. Parity with torch, and
    of each format with ONNX, is checked before anything appears under its final name; ``seed`` draws the
    synthetic images and the noise of that check and of the self-test. ``sign`` is a file with an Ed25519
    private key. The same spec, versions and key give the same bytes, but for what the manifest says of
    calibrating and of ``on``.

    Raises:
        InputError: ``subject`` is neither run nor spec, its weights, adapted weights or projection are
            missing or others, int8 has no images, a format has no converter here or is none of int8, ``sign``
            holds no key, or ``out`` exists.
        NegativeResult: ONNX Runtime gives other values than torch, a format others than ONNX, int8 loses more
            than it may, the encoder sends something else on ``on``, ``for_runtime`` does not take the
            network, or the graph uses what no artifact may.
    """
    from ..encoders.building import build_encoder

    if for_runtime is not None:
        check_runtime(for_runtime)
    if on is not None:
        open_target(on)  # says what is wrong with its name before anything is computed
    spec, limits = read_subject(subject)
    wanted = precision_of(spec, precision)
    names = check_formats(formats, precision=wanted)
    images = selftest_images(selftest, data=data, size=spec.input_size, seed=seed)
    key = None if sign is None else SigningKey.read(sign)
    with progress.task("export", _STEPS) as task, new_artifact(out, force=force) as folder:
        encoder = build_encoder(
            spec,
            weights=weights,
            adapted_weights=adapted_weights,
            projection_weights=projection_weights,
            allowed_code=allowed_code,
        )
        task.advance(note=wanted)
        encoder, int8 = in_precision(
            encoder,
            wanted,
            images=calibration_images,
            judge=judge,
            max_loss=max_loss,
            progress=progress,
        )
        spec = encoder.spec
        task.advance(note="graph")
        file = folder / "encoder.onnx"
        written = write_onnx(encoder, file, seed=seed, for_runtime=for_runtime)
        runtimes = _runtimes(file, for_runtime)
        task.advance(note="self-test")
        session = open_exported(encoder, file)
        rows = write_selftest(folder / "selftest.npz", session, images, seed=seed)
        task.advance(note="target")
        measured = (
            [] if on is None else measured_there(encoder, file, rows, on=on, seed=seed, progress=progress)
        )
        task.advance(note="formats")
        parity = _write_formats(names, encoder, session, folder, seed=seed)
        if with_weights:
            write_weights(encoder, folder / "encoder.safetensors")
        task.advance(note="manifest")
        spec.for_shipping().write(folder / "encoder.json")
        page = artifact_readme(
            spec,
            encoder.feature_shape,
            runtimes=runtimes,
            formats=["onnx", *names],
            weights=with_weights,
            selftest_of_data=selftest == "data",
        )
        (folder / "README.md").write_text(page, encoding="utf-8")
        body = _manifest_body(encoder, file, written, limits, runtimes)
        body |= {"int8": int8, "measured": measured}
        body["tools"] |= converters(names)
        body["parity"] |= {"formats": parity} if parity else {}
        manifest = seal(folder, body, key=key)
        _check_graph(file, manifest)
        task.advance()
    return {
        "artifact": str(out),
        "files": {name: info.model_dump() for name, info in manifest.files.items()},
        "signature": {
            "state": "unsigned" if key is None else "valid",
            "key": None if key is None else key.public_key.fingerprint,
        },
        "precision": manifest.precision,
        "parity": manifest.parity,
        "int8": int8,
        "measured": measured,
        "runtimes": {name: found.model_dump(mode="json") for name, found in manifest.runtimes.items()},
        "findings": [
            *selftest_warnings(selftest, data=data),
            *timing_findings(measured, in_int8=int8 is not None),
            *accuracy_findings(int8, max_loss=max_loss),
        ],
        "inputs": spec_inputs(spec),
    }


def spec_inputs(spec: EncoderSpec) -> dict[str, str]:
    """The digests of what an export or a check was made from."""
    adapted = {} if spec.adapted is None else {"adapted_weights": spec.adapted.digest}
    projection = {} if spec.projection is None else {"projection_weights": spec.projection.digest}
    return {"spec": spec.digest, "weights": spec.weights_digest, **adapted, **projection}


def write_onnx(
    encoder: Encoder, path: Path, *, seed: int = 0, for_runtime: str | None = None
) -> dict[str, Any]:
    """Write an encoder as ONNX with a static batch of one; returns what ``export_module`` does.

    ``for_runtime``: the runtime whose operators are used where there is a choice; an int8 graph is the one
    that its spec's grids are for.
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
        for_runtime=for_runtime,
    )


def _runtimes(model: Path, for_runtime: str | None) -> dict[str, Support]:
    import onnx

    graph = onnx.load(model)
    if for_runtime is not None:
        check_for(graph, for_runtime)
    return support(graph)


def _write_formats(
    names: Collection[str], encoder: Encoder, session: OrtEncoder, folder: Path, *, seed: int
) -> dict[str, Any]:
    images, noise = probes(
        encoder.input_size, encoder.feature_shape if encoder.noise_std else None, seed=seed
    )
    source = Source(encoder, folder / "encoder.onnx", images, noise, session.send(images, noise))
    return write_formats(names, source, folder)


def _check_graph(model: Path, manifest: Manifest) -> None:
    """Refuse to ship what ``verify`` would refuse."""
    for fault in graph_faults(model, manifest):
        raise NegativeResult(
            f"the exported graph {fault}",
            hint="nothing was written; choose another backbone or an earlier cut",
        )


def _manifest_body(
    encoder: Encoder,
    file: Path,
    written: Mapping[str, Any],
    limits: Mapping[str, Any],
    runtimes: Mapping[str, Support],
) -> dict[str, Any]:
    costs = asdict(encoder.costs)
    del costs["kernels"]
    if encoder.spec.int8 is not None:
        # Peak memory stays that of float32, an upper bound: what a runtime fuses is not in the file.
        costs["weights_kb"] = graph_costs(file).weights_kb
    features, payload = encoder.feature_shape, encoder.payload
    noise = {"name": NOISE_NAME, "shape": [1, *features], "dtype": "float32"} if encoder.noise_std else None
    return {
        "tools": tool_versions(),
        "spec_digest": encoder.digest,
        "precision": "int8" if encoder.spec.int8 else "fp32",
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
        "runtimes": {name: asdict(found) for name, found in runtimes.items()},
        "parity": {key: written[key] for key in ("max_abs_error", "max_abs_output")},
        "costs": {**costs, "storage_kb": written["bytes"] / 1024},
        "limits": dict(limits),
    }
