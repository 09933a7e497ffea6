"""An ONNX graph as the operations that ``encoders`` counts a traced network by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...encoders import Activation, Convolution, Operation, Work

if TYPE_CHECKING:
    import onnx

Shapes = Mapping[str, Sequence[int]]

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
"""Only re-read their input's memory."""
_FUSABLE = ("Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu")
"""With ReLU the activations that the kernel before them computes."""
_BOUNDS = ("Clip", "LeakyRelu", "HardSigmoid")
_CURVES = ("Sigmoid", "Tanh", "HardSwish", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Softsign")
_WORK = {
    "Conv": Work.CONVOLUTION,
    **dict.fromkeys(("Gemm", "MatMul"), Work.LINEAR),
    **dict.fromkeys(("Relu", *_FUSABLE), Work.FUSABLE_ACTIVATION),
    **dict.fromkeys(("MaxPool", "AveragePool", "Resize"), Work.POOL),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), Work.MEAN),
    **dict.fromkeys(
        ("Transpose", "Slice", "Split", "Gather", "Pad", "DepthToSpace", "SpaceToDepth", "Expand", "Tile"),
        Work.MOVE,
    ),
    **dict.fromkeys(VIEWS, Work.VIEW),
}


def operations_of(graph: onnx.GraphProto, shapes: Shapes) -> list[Operation]:
    """The operations in the graph's order; ``shapes`` has that of every tensor, weights included.

    What is computed from weights alone is left out: a runtime does it once, when it loads the file. A tensor
    times its own sigmoid is one operation, and a matrix product one with the bias that is added to it.
    """
    constant = {weight.name for weight in graph.initializer} | {""}
    gated, products = gated_by_sigmoid(graph), bias_additions(graph)
    places: dict[str, int] = {}
    found: list[Operation] = []
    for node in graph.node:
        data = tuple(name for name in dict.fromkeys(node.input) if name not in constant)
        if not data:
            constant.update(node.output)
            continue
        if node.output[0] in gated:
            continue
        weights = sum(math.prod(shapes[name]) for name in node.input if name and name in constant)
        if node.op_type == "Mul" and any(name in gated for name in data):
            data = (next(name for name in data if name not in gated),)
        if node.output[0] in products:
            place = places[products[node.output[0]]]
            product = found[place]
            found[place] = replace(product, outputs=(node.output[0],), weights=product.weights + weights)
            continue
        places[node.output[0]] = len(found)
        found.append(_operation(node, data, weights, shapes))
    return found


def _operation(node: onnx.NodeProto, data: tuple[str, ...], weights: int, shapes: Shapes) -> Operation:
    outputs = tuple(name for name in node.output if name)
    work = _work(node, data, shapes)
    if work is Work.CONVOLUTION:
        return Operation(work, data, outputs, weights, convolution=_convolution(node, shapes))
    macs = 0
    if work is Work.LINEAR:
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        macs = math.prod(shapes[outputs[0]]) * shapes[node.input[0]][-2 if turned else -1]
    # The axes, pads and sizes of other work are no parameters.
    kept = weights if work in (Work.LINEAR, Work.ELEMENTWISE) else 0
    return Operation(work, data, outputs, kept, macs, activation=_activation(node, data, weights))


def _activation(node: onnx.NodeProto, data: Sequence[str], weights: int) -> Activation | None:
    if node.op_type in _BOUNDS:
        return Activation.BOUND
    times_its_sigmoid = node.op_type == "Mul" and len(data) == 1 and not weights
    return Activation.CURVE if node.op_type in _CURVES or times_its_sigmoid else None


def _work(node: onnx.NodeProto, data: Sequence[str], shapes: Shapes) -> Work:
    made = shapes[node.output[0]]
    if node.op_type == "Concat":
        (axis,) = (attribute.i for attribute in node.attribute if attribute.name == "axis")
        return Work.CONCATENATION if axis % len(made) == 1 else Work.MOVE
    if node.op_type == "ReduceMean" or (node.op_type in ("AveragePool", "MaxPool") and _is_point(made)):
        return Work.MEAN
    if node.op_type == "Pad" and len(made) == 4 and tuple(made[:2]) == tuple(shapes[data[0]][:2]):
        return Work.VIEW
    alike = len(set(data)) > 1 and len({tuple(shapes[name]) for name in data}) == 1
    if node.op_type in ("Add", "Sum"):
        return Work.ADDITION if alike else Work.ELEMENTWISE
    return _WORK.get(node.op_type, Work.ELEMENTWISE)


def _is_point(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and tuple(shape[2:]) == (1, 1)


def _convolution(node: onnx.NodeProto, shapes: Shapes) -> Convolution:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    output_channels, _, *window = shapes[node.input[1]]
    strides = list(attributes["strides"].ints) if "strides" in attributes else [1, 1]
    # A convolution over one axis is one over a height of 1.
    *outer, output_width = shapes[node.output[0]][2:]
    return Convolution(
        input_channels=shapes[node.input[0]][1],
        output_channels=output_channels,
        groups=attributes["group"].i if "group" in attributes else 1,
        window=(math.prod(window[:-1]), window[-1]),
        stride=(math.prod(strides[:-1]), strides[-1]),
        output_height=math.prod(outer),
        output_width=output_width,
    )


def gated_by_sigmoid(graph: onnx.GraphProto) -> set[str]:
    """Sigmoids whose one reader multiplies them with what they were computed from."""
    readers = _readers(graph)
    found = set()
    for node in graph.node:
        users = readers.get(node.output[0], [])
        multiplied = len(users) == 1 and users[0].op_type == "Mul"
        if node.op_type == "Sigmoid" and multiplied and node.input[0] in users[0].input:
            found.add(node.output[0])
    return found


def bias_additions(graph: onnx.GraphProto) -> dict[str, str]:
    """For each sum of a matrix product that nobody else reads and a weight of one axis: that product."""
    biases = {weight.name for weight in graph.initializer if len(weight.dims) == 1}
    readers = _readers(graph)
    found = {}
    for node in graph.node:
        users = readers.get(node.output[0], [])
        added = node.op_type == "MatMul" and len(users) == 1 and users[0].op_type == "Add"
        if added and not biases.isdisjoint(users[0].input):
            found[users[0].output[0]] = node.output[0]
    return found


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers
