"""A float32 graph in integers of 8 bits: static, uint8 activations, int8 weights for each channel."""

from __future__ import annotations

import contextlib
import logging
import math
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

    Raises :class:`InputError` when the grids belong to another graph, or would let an activation's output
    below 0 where the activation ends there.
    """
    needed = grid_tensors(model, in_float=int8.in_float)
    if set(needed) != int8.grids.keys():
        raise InputError(
            "the spec's int8 grids belong to another graph than this privynet exports",
            hint="calibrate again with --data, or use the versions that wrote the spec",
        )
    _check_ends(model, int8)
    prepared = with_pixels(model) or model
    made = _with_grids(prepared, {**int8.grids, PIXELS: _PIXEL_GRID}, int8.in_float)
    _drop_identity(made.graph)
    return made


def bounds(model: onnx.ModelProto, tensor: str) -> tuple[float, float]:
    """Between which values a Relu or Clip keeps its output ``tensor``; infinite for any other tensor.

    The quantiser leaves both out: the ends of their outputs' grids are to do the same.
    """
    from onnx.numpy_helper import to_array

    node = next((one for one in model.graph.node if tensor in one.output), None)
    if node is None or node.op_type not in ("Relu", "Clip"):
        return -math.inf, math.inf
    if node.op_type == "Relu":
        return 0.0, math.inf
    constants = {one.name: to_array(one) for one in model.graph.initializer}
    lowest, highest = [*node.input[1:], "", ""][:2]
    return float(constants.get(lowest, -math.inf)), float(constants.get(highest, math.inf))


def _check_ends(model: onnx.ModelProto, int8: Int8) -> None:
    for name, (_, zero) in int8.grids.items():
        if zero and bounds(model, name)[0] == 0:
            raise InputError(
                f"the spec's int8 grid of {name} reaches below 0, where an activation ends",
                hint="calibrate again with --data",
            )


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
