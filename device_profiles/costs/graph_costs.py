"""What an exported graph costs, counted on the ONNX file itself: what ships, not what was meant to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import PrivynetError
from .liveness import Tensor, peak_bytes

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class GraphCosts:
    """The costs of one run, as ``encoders.Costs`` has them; the units are in the names."""

    macs: int
    weights_kb: float
    peak_ram_kb: float
    payload_bytes: int


def graph_costs(path: Path) -> GraphCosts:
    """Count the costs of an ONNX file with static shapes.

    ``macs``: of convolutions and matrix products. ``weights_kb``: the initialisers. ``peak_ram_kb``: the
    largest set of tensors alive at once in the file's order of nodes, weights left out. ``payload_bytes``:
    the first output. Raises ``PrivynetError`` where a shape is not static or cannot be inferred.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    graph = model.graph
    tensors = _tensors(graph)
    for node in graph.node:
        for name in node.output:
            if name and name not in tensors:
                raise PrivynetError(
                    f"the shape of {name} in {path.name} is not known", hint="export it with static shapes"
                )
    return GraphCosts(
        macs=sum(_macs(node, tensors) for node in graph.node),
        weights_kb=sum(tensors[weight.name].bytes for weight in graph.initializer) / 1024,
        peak_ram_kb=peak_bytes(graph, tensors) / 1024,
        payload_bytes=tensors[graph.output[0].name].bytes,
    )


def _tensors(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """All tensors whose shape is known, weights among them."""
    found = {weight.name: _tensor(weight.dims, weight.data_type) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = [size.dim_value for size in kind.shape.dim]
        if kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim):
            found[value.name] = _tensor(sizes, kind.elem_type)
    return found


def _tensor(shape: Iterator[int] | list[int], data_type: int) -> Tensor:
    import onnx

    sizes = tuple(shape)
    return Tensor(sizes, math.prod(sizes) * onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _macs(node: onnx.NodeProto, tensors: Mapping[str, Tensor]) -> int:
    if node.op_type == "Conv":
        # (outputs, inputs of a group, window)
        return math.prod(tensors[node.output[0]].shape) * math.prod(tensors[node.input[1]].shape[1:])
    if node.op_type in ("Gemm", "MatMul"):
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        inner = tensors[node.input[0]].shape[-2 if turned else -1]
        return math.prod(tensors[node.output[0]].shape) * inner
    return 0
