"""A float32 graph in integers of 8 bits: static, uint8 activations, int8 weights for each channel."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from .pixels import PIXELS, with_pixels

if TYPE_CHECKING:
    import onnx

    from ...encoders import Int8

Grid = tuple[float, int]
"""Scale and zero point: a value is (q - zero_point) * scale, q in uint8."""

_PIXEL_GRID: Grid = (1.0, 0)


def grid_tensors(model: onnx.ModelProto, *, in_float: Collection[str] = ()) -> tuple[str, ...]:
    """The names of the tensors of ``model`` that need a grid, in the order of the graph.

    ``in_float``: nodes that are not quantised. Raises :class:`InputError` for one that is not there.
    """
    prepared = with_pixels(model) or model
    names = [name for node in prepared.graph.node for name in node.output]
    marked = _with_grids(prepared, dict.fromkeys(names, _PIXEL_GRID), in_float)
    # A tensor that only moves another's values has the other's grid, and so its scale.
    own = {f"{name}_scale": name for name in names}
    scales = {node.input[1] for node in marked.graph.node if node.op_type == "QuantizeLinear"}
    needed = {own[scale] for scale in scales}
    return tuple(name for name in names if name in needed and name != PIXELS)


def quantised(model: onnx.ModelProto, int8: Int8) -> onnx.ModelProto:
    """The float32 ``model`` on the grids of ``int8``; inputs and outputs stay what they are.

    Raises :class:`InputError` when the grids belong to another graph.
    """
    needed = grid_tensors(model, in_float=int8.in_float)
    if set(needed) != int8.grids.keys():
        raise InputError(
            "the spec's int8 grids belong to another graph than this privynet exports",
            hint="calibrate again with --data, or use the versions that wrote the spec",
        )
    prepared = with_pixels(model) or model
    made = _with_grids(prepared, {**int8.grids, PIXELS: _PIXEL_GRID}, int8.in_float)
    _drop_identity(made.graph)
    return made


def _with_grids(
    model: onnx.ModelProto, grids: Mapping[str, Grid], in_float: Collection[str]
) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import TensorData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    unknown = sorted(set(in_float) - {node.name for node in model.graph.node})
    if unknown:
        raise InputError(f"the graph has no node {unknown[0]}", hint="calibrate again with --data")
    tensors = {name for node in model.graph.node for name in node.output}
    # For tensors without a grid the library wants a range too, which it does not use.
    ranges = {name: TensorData(lowest=np.float32(0), highest=np.float32(1)) for name in sorted(tensors)}
    overrides = {
        name: [
            {
                "scale": np.array(scale, np.float32),
                "zero_point": np.array(zero, np.uint8),
                "quant_type": QuantType.QUInt8,
            }
        ]
        for name, (scale, zero) in grids.items()
        if name in tensors
    }
    before = _before_first_convolution(model.graph)
    copied = type(model)()
    copied.CopyFrom(model)
    with _quiet():
        quantiser = QDQQuantizer(
            copied,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*before, *in_float],
            op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry}),
            extra_options={"TensorQuantOverrides": overrides},
        )
        quantiser.quantize_model()
    quantiser.model.topological_sort()
    made: onnx.ModelProto = quantiser.model.model
    return made


def _before_first_convolution(graph: onnx.GraphProto) -> list[str]:
    """Nodes that prepare the image: their numbers are of no network."""
    names = []
    for node in graph.node:
        if node.op_type == "Conv":
            break
        names.append(node.name)
    return names


def _drop_identity(graph: onnx.GraphProto) -> None:
    """Pixels are whole numbers: putting them on their grid, as float32, changes nothing."""
    made = {name: node for node in graph.node for name in node.output}
    for node in list(graph.node):
        if node.op_type == "QuantizeLinear" and node.input[0] == PIXELS:
            cast = made[PIXELS]
            for reader in graph.node:
                reader.input[:] = [cast.input[0] if name == node.output[0] else name for name in reader.input]
            graph.node.remove(node)
            graph.node.remove(cast)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The library tells of its steps in the root logger."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger().setLevel(level)
