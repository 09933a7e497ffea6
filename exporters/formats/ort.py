"""ONNX Runtime's own container: the graph as its optimisers leave it, to be loaded without them."""

from __future__ import annotations

from pathlib import Path

from ...artifacts import Artifact, OrtEncoder, ort_errors, session_options
from ...errors import PrivynetError
from ..agreement import INT8_NOISE, compare
from ..exported import open_exported
from ..probes import probes
from .ort_order import in_fixed_order, ort_format_model
from .source import Send, Source

_MODEL = "encoder.ort"
_OPERATORS = "required_operators.config"
_HEADER = (
    "# The operators of encoder.ort, for an ONNX Runtime of your own that has no others:\n"
    "# build.sh --minimal_build --include_ops_by_config required_operators.config\n"
)
_OPTIONS = {
    "session.save_model_format": "ORT",
    # What onnxruntime.tools.convert_onnx_models_to_ort sets for Arm.
    "session.qdqisint8allowed": "1",
}


def write_ort(source: Source, folder: Path) -> Send:
    """Write ``encoder.ort`` and ``required_operators.config``.

    With all optimisations but those for one processor: x86's layout of channels in blocks is left out, as for
    Arm. Raises ``PrivynetError`` where ONNX Runtime cannot write it.
    """
    import onnxruntime

    written = folder / _MODEL
    options = session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(written)
    for key, value in _OPTIONS.items():
        options.add_session_config_entry(key, value)
    try:
        onnxruntime.InferenceSession(
            str(source.model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["NchwcTransformer"],
            # It would print to standard output, and has nothing to fall back to.
            enable_fallback=0,
        )
    except ort_errors() as error:
        reason = " ".join(str(error).split())
        raise PrivynetError(
            f"ONNX Runtime cannot write encoder.ort: {reason[:200]}", hint="leave --format ort out"
        ) from error
    if not written.is_file():
        raise PrivynetError("ONNX Runtime wrote no encoder.ort", hint="leave --format ort out")
    written.write_bytes(in_fixed_order(written.read_bytes()))
    (folder / _OPERATORS).write_text(_HEADER + _operators(written))
    return open_exported(source.encoder, written).send


def ort_fault(artifact: Artifact, session: OrtEncoder, *, seed: int) -> str | None:
    """How far ``encoder.ort`` is from ``session``, where that is too far.

    Raises ``InputError`` where ONNX Runtime cannot load it, and ``PrivynetError`` where it cannot run it.
    """
    manifest = artifact.manifest
    own = OrtEncoder.open(
        artifact.folder / _MODEL,
        payload=manifest.payload,
        noise_std=manifest.noise_std,
        feature_shape=manifest.feature_shape,
    )
    images, noise = probes(session.input_size, session.feature_shape if session.noise else None, seed=seed)
    found = compare(
        own.send(images, noise),
        session.send(images, noise),
        manifest.payload,
        # Without the layout in blocks, parts in float32 are summed in another order.
        allowed_noise=INT8_NOISE if manifest.in_int8 else 0.0,
    )
    return None if found.holds else f"differs from encoder.onnx by {found}"


def _operators(model: Path) -> str:
    """The operators of an .ort file, a line for each domain and version."""
    found: dict[str, dict[int, set[str]]] = {}
    ort_format_model().OrtFormatModelProcessor(str(model), found, None).process()
    return "".join(
        f"{domain};{version};{','.join(sorted(found[domain][version]))}\n"
        for domain in sorted(found)
        for version in sorted(found[domain])
    )
