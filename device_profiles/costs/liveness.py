"""How much memory the activations of an ONNX graph take at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ...encoders.buffers import HeldTensor, Role, Step, peak_bytes
from .operations import VIEWS, bias_additions, gated_by_sigmoid

if TYPE_CHECKING:
    import onnx

_IN_PLACE = frozenset(
    {
        *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Clip", "Sigmoid", "HardSigmoid", "Tanh", "Softplus"),
        *("Softsign", "Cast"),
    }
)
"""Write over an input of the same size that nobody needs any more."""
_WITH_A_FACTOR = frozenset({"HardSwish", "Mish"})
"""Have a factor of their input's size beside it."""


def graph_peak_bytes(graph: onnx.GraphProto, tensors: Mapping[str, HeldTensor]) -> int:
    """The most bytes that activations take at once, in the file's order of nodes."""
    weights = {weight.name for weight in graph.initializer}
    inputs = [tensors[value.name] for value in graph.input if value.name not in weights]
    return peak_bytes(inputs, _steps(graph, tensors), {output.name for output in graph.output})


def _steps(graph: onnx.GraphProto, tensors: Mapping[str, HeldTensor]) -> list[Step]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gated, biased = gated_by_sigmoid(graph), bias_additions(graph)
    weights = {weight.name for weight in graph.initializer}
    steps = []
    for node in graph.node:
        after = readers.get(node.output[0], [])
        # A constant is a weight, and x * sigmoid(x) one kernel.
        if node.op_type == "Constant" or node.output[0] in gated:
            continue
        made = tuple(tensors[name] for name in node.output if name)
        steps.append(
            Step(
                tuple(node.input),
                made,
                _role(node, after, biased, weights),
                scratch_bytes=made[0].bytes if node.op_type in _WITH_A_FACTOR else 0,
            )
        )
    return steps


def _role(
    node: onnx.NodeProto, readers: list[onnx.NodeProto], biased: Collection[str], weights: set[str]
) -> Role:
    kind = node.op_type
    if kind == "Conv":
        return Role.CONVOLUTION
    if kind in ("Gemm", "MatMul"):
        return Role.PRODUCT
    # Padding is done inside the convolutions that read it.
    if kind in VIEWS or (kind == "Pad" and all(reader.op_type == "Conv" for reader in readers)):
        return Role.VIEW
    # A bias is added by the matrix product before it.
    if kind in _IN_PLACE or node.output[0] in biased:
        return Role.IN_PLACE
    if kind == "Add" and len(set(node.input) - weights) == 2:
        return Role.ADDITION
    return Role.OTHER
