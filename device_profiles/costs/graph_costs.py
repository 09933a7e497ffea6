"""What an exported graph costs, counted on the ONNX file itself: what ships, not what was meant to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import PrivynetError

if TYPE_CHECKING:
    import onnx

    from ...encoders import Costs

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
"""Only re-read their input's memory."""
_IN_PLACE = frozenset(
    {
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
        *("Gelu", "Mish", "Softplus", "Erf", "Add", "Sub", "Mul", "Div", "BatchNormalization"),
    }
)
"""Write over an input of the same size that nobody needs any more."""


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    bytes: int


def graph_costs(path: Path) -> Costs:
    """Count the costs of an ONNX file with static shapes.

    ``macs``: of convolutions and matrix products. ``weights_kb``: the initialisers. ``peak_ram_kb``: the
    largest set of tensors alive at once in the file's order of nodes, weights left out. ``payload_bytes``:
    the first output. Raises ``PrivynetError`` where a shape is not static or cannot be inferred.
    """
    import onnx

    return model_costs(onnx.load(path), name=path.name)


def model_costs(model: onnx.ModelProto, *, name: str = "the model") -> Costs:
    """:func:`graph_costs` of a model in memory; ``name`` is what errors call it."""
    import onnx

    from ...encoders import Costs, fuse
    from .operations import operations_of

    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = model.graph
    tensors = _tensors(graph)
    for node in graph.node:
        for made in node.output:
            if made and made not in tensors:
                raise PrivynetError(
                    f"the shape of {made} in {name} is not known", hint="export it with static shapes"
                )
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    kernels = fuse(operations_of(graph, shapes), shapes, [output.name for output in graph.output])
    return Costs(
        macs=sum(kernel.macs for kernel in kernels),
        weights_kb=sum(tensors[weight.name].bytes for weight in graph.initializer) / 1024,
        peak_ram_kb=_peak_bytes(graph, tensors) / 1024,
        payload_bytes=tensors[graph.output[0].name].bytes,
        kernels=kernels,
    )


def _tensors(graph: onnx.GraphProto) -> dict[str, _Tensor]:
    """All tensors whose shape is known, weights among them."""
    found = {weight.name: _tensor(weight.dims, weight.data_type) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = [size.dim_value for size in kind.shape.dim]
        if kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim):
            found[value.name] = _tensor(sizes, kind.elem_type)
    return found


def _tensor(shape: Iterator[int] | list[int], data_type: int) -> _Tensor:
    import onnx

    sizes = tuple(shape)
    return _Tensor(sizes, math.prod(sizes) * onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _peak_bytes(graph: onnx.GraphProto, tensors: Mapping[str, _Tensor]) -> int:
    """By liveness; a buffer is named by the tensor that it was made for."""
    weights = {weight.name for weight in graph.initializer}
    end = len(graph.node)
    last_use = {name: place for place, node in enumerate(graph.node) for name in node.input}
    last_use |= {output.name: end for output in graph.output}
    inputs = [value.name for value in graph.input if value.name not in weights]
    holder = {name: name for name in inputs}
    until = {name: last_use.get(name, 0) for name in inputs}
    peak = sum(tensors[name].bytes for name in until)
    for place, node in enumerate(graph.node):
        for name in (name for name in node.output if name):
            shared = _shared(node, name, place, tensors, holder, last_use)
            holder[name] = name if shared is None else holder[shared]
            until[holder[name]] = max(until.get(holder[name], 0), last_use.get(name, place))
        peak = max(peak, sum(tensors[name].bytes for name in until))
        until = {name: last for name, last in until.items() if last > place}
    return peak


def _shared(
    node: onnx.NodeProto,
    output: str,
    place: int,
    tensors: Mapping[str, _Tensor],
    holder: Mapping[str, str],
    last_use: Mapping[str, int],
) -> str | None:
    """The input whose memory also holds the output."""
    inputs: list[str] = list(node.input)
    if node.op_type in _VIEWS:
        return inputs[0] if inputs[0] in holder else None
    if node.op_type in _IN_PLACE:
        for name in inputs:
            if name in holder and last_use[name] == place and tensors[name].bytes == tensors[output].bytes:
                return name
    return None
