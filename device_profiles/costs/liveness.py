"""How much memory the activations of an ONNX graph take at once, by liveness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

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
class Tensor:
    shape: tuple[int, ...]
    bytes: int


def peak_bytes(graph: onnx.GraphProto, tensors: Mapping[str, Tensor]) -> int:
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
    tensors: Mapping[str, Tensor],
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
