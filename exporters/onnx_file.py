"""Any module to one ONNX file: static shapes, no trace of the build machine, the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..artifacts import file_digest, replace_file
from ..errors import NegativeResult, PrivynetError

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

OPSET = 20
MAX_ABSOLUTE_ERROR = 1e-3
"""Parity fails above this, relative to the largest absolute output (or to 1, if that is larger)."""

_PRODUCER = "privynet"


def export_module(
    module: nn.Module,
    example: Tensor,
    path: Path,
    *,
    input_name: str,
    output_name: str,
    dynamic_batch: bool = False,
) -> dict[str, Any]:
    """Write ``module`` as ONNX and check it against torch in ONNX Runtime on ``example``.

    With ``dynamic_batch`` the first axis of input and output is symbolic, otherwise every shape is the
    example's. Returns ``max_abs_error``, ``max_abs_output``, ``opset``, ``sha256``, ``bytes``.

    Raises:
        NegativeResult: ONNX Runtime gives other values than torch.
        PrivynetError: the module cannot be exported, or the file cannot be written.
    """
    model = to_onnx(
        module, example, input_name=input_name, output_name=output_name, dynamic_batch=dynamic_batch
    )
    data = model.SerializeToString(deterministic=True)
    with replace_file(path) as temporary:
        temporary.write_bytes(data)
        error, scale = parity(module, temporary, example.numpy())
        if not error <= MAX_ABSOLUTE_ERROR * max(1.0, scale):
            raise NegativeResult(
                f"the exported graph differs from torch by {error:.3g} (outputs reach {scale:.3g})",
                hint="nothing was written; the network uses an operator that the exporter gets wrong",
            )
    return {
        "max_abs_error": error,
        "max_abs_output": scale,
        "opset": OPSET,
        "sha256": file_digest(path),
        "bytes": path.stat().st_size,
    }


def to_onnx(
    module: nn.Module, example: Tensor, *, input_name: str, output_name: str, dynamic_batch: bool = False
) -> onnx.ModelProto:
    """The module as a checked ONNX model without names, paths or stack traces of the build."""
    import onnx
    import torch

    shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    module = module.eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=[output_name],
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        first = str(error).strip().splitlines()[0]
        raise PrivynetError(f"the network cannot be exported to ONNX: {first}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _strip(model)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    if opset != OPSET:
        raise PrivynetError(f"the exporter gave opset {opset} where {OPSET} was asked for")
    onnx.checker.check_model(model, full_check=True)
    return model


def parity(module: nn.Module, path: Path, images: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Largest absolute difference between torch and ONNX Runtime, and largest absolute output of torch."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        wanted = module(torch.from_numpy(images)).cpu().numpy()
    (got,) = session.run(None, {session.get_inputs()[0].name: images})
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf"), float(np.abs(wanted).max(initial=0))
    return float(np.abs(got - wanted).max(initial=0)), float(np.abs(wanted).max(initial=0))


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes about the build, and name nodes and values by their place.

    The exporter's metadata holds stack traces with paths of the build machine, its names the structure of the
    backbone's code; both would make equal encoders differ in their bytes.
    """
    model.producer_name, model.producer_version, model.doc_string, model.domain = _PRODUCER, "", "", ""
    model.graph.name, model.graph.doc_string = "encoder", ""
    for metadata in (model.metadata_props, model.graph.metadata_props):
        del metadata[:]
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {name: name for name in kept}
    for index, initializer in enumerate(graph.initializer):
        names[initializer.name] = f"constant_{index}"
        initializer.name, initializer.doc_string = f"constant_{index}", ""
        del initializer.metadata_props[:]
    for index, node in enumerate(graph.node):
        for position, name in enumerate(node.output):
            if name and name not in names:
                names[name] = f"value_{index}" + (f"_{position}" if position else "")
    for index, node in enumerate(graph.node):
        node.name, node.doc_string = f"{node.op_type}_{index}", ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    # Inferred shapes of inner values are found again by whoever loads the file.
    del graph.value_info[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its steps and logs warnings that do not concern the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
