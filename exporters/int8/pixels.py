"""The image's normalisation, moved into the first convolution: what the camera gives is on a grid already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

PIXELS = "pixels"
"""What the float32 tensor of whole numbers 0 to 255, (1, 3, H, W) with its borders, is called."""


def with_pixels(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The same network, its first convolution reading pixels instead of normalised values; ``None`` where the
    image goes another way.

    Borders are added to the image before: the normalised 0 that they stand for is each colour's mean, rounded
    to a whole number. Inside the borders nothing changes but the order of sums.
    """
    import onnx

    found = _find(model.graph)
    if found is None:
        return None
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    _rewrite(changed.graph, found)
    return changed


@dataclass(frozen=True)
class _Start:
    """The nodes from the image to the first convolution, and what they do."""

    nodes: tuple[int, ...]
    conv: int
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    pads: tuple[int, int, int, int]
    """Top, left, bottom, right: the convolution's own, and those of a node before it."""


def _find(graph: onnx.GraphProto) -> _Start | None:
    from onnx.numpy_helper import to_array

    constants = {one.name: to_array(one) for one in graph.initializer}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    scale, shift = np.ones(3), np.zeros(3)
    pads = np.zeros(4, np.int64)
    passed: list[int] = []
    name, transposed, begun = graph.input[0].name, False, False
    while len(readers.get(name, [])) == 1:
        index = readers[name][0]
        node = graph.node[index]
        operand = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Transpose" and _ints(node, "perm") == [0, 3, 1, 2] and not transposed:
            transposed = True
        elif node.op_type == "Cast" and not begun:
            begun = True
        elif node.op_type == "Mul" and operand is not None and operand.size == 3 and not pads.any():
            scale, shift = scale * operand.ravel(), shift * operand.ravel()
        elif node.op_type == "Add" and operand is not None and operand.size == 3 and not pads.any():
            shift = shift + operand.ravel()
        elif node.op_type == "Pad" and operand is not None and _is_border(node, operand, constants):
            pads += operand.reshape(2, 4)[:, 2:].ravel()
        elif node.op_type == "Conv" and transposed and begun:
            attributes = {one.name for one in node.attribute}
            automatic = any(
                one.name == "auto_pad" and one.s not in (b"", b"NOTSET") for one in node.attribute
            )
            grouped = any(one.name == "group" and one.i != 1 for one in node.attribute)
            if automatic or grouped or node.input[1] not in constants:
                return None
            pads += np.array(_ints(node, "pads") if "pads" in attributes else [0] * 4)
            top, left, bottom, right = (int(pad) for pad in pads)
            return _Start(tuple(passed), index, scale, shift, (top, left, bottom, right))
        else:
            return None
        passed.append(index)
        name = node.output[0]
    return None


def _ints(node: onnx.NodeProto, name: str) -> list[int]:
    return next((list(one.ints) for one in node.attribute if one.name == name), [])


def _is_border(
    node: onnx.NodeProto, pads: NDArray[np.int64], constants: dict[str, NDArray[np.float32]]
) -> bool:
    """Whether a Pad node adds rows and columns of zeros."""
    mode = next((one.s for one in node.attribute if one.name == "mode"), b"constant")
    value = constants.get(node.input[2], np.ones(1)) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    flat = pads.ravel()
    return (
        mode == b"constant"
        and not value.any()
        and flat.size == 8
        and not flat[[0, 1, 4, 5]].any()
        and bool((flat >= 0).all())
        and not any(node.input[3:])
    )


def _rewrite(graph: onnx.GraphProto, start: _Start) -> None:
    from onnx import TensorProto, helper, numpy_helper

    conv = graph.node[start.conv]
    constants = {one.name: one for one in graph.initializer}
    weight = numpy_helper.to_array(constants[conv.input[1]]).astype(np.float64)
    biased = len(conv.input) > 2
    bias = numpy_helper.to_array(constants[conv.input[2]]) if biased else np.zeros(len(weight))
    graph.initializer.extend(
        [
            numpy_helper.from_array(
                (weight * start.scale[:, None, None]).astype(np.float32), f"{PIXELS}_weight"
            ),
            numpy_helper.from_array(
                (bias + (weight.sum((2, 3)) * start.shift).sum(1)).astype(np.float32), f"{PIXELS}_bias"
            ),
        ]
    )
    mean = np.rint(-start.shift / start.scale).clip(0, 255).astype(np.uint8)
    name, made = _add_borders(graph, start.pads, mean)
    made.append(
        helper.make_node("Transpose", [name], [f"{PIXELS}_planes"], f"{PIXELS}_Transpose", perm=[0, 3, 1, 2])
    )
    made.append(
        helper.make_node("Cast", [f"{PIXELS}_planes"], [PIXELS], f"{PIXELS}_Cast", to=TensorProto.FLOAT)
    )
    conv.input[:] = [PIXELS, f"{PIXELS}_weight", f"{PIXELS}_bias"]
    for attribute in list(conv.attribute):
        if attribute.name in ("pads", "auto_pad"):
            conv.attribute.remove(attribute)
    conv.attribute.append(helper.make_attribute("pads", [0, 0, 0, 0]))
    kept = [node for index, node in enumerate(graph.node) if index not in start.nodes]
    del graph.node[:]
    graph.node.extend([*made, *kept])
    used = {name for node in graph.node for name in node.input}
    left_over = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left_over)


def _add_borders(
    graph: onnx.GraphProto, pads: tuple[int, int, int, int], colour: NDArray[np.uint8]
) -> tuple[str, list[onnx.NodeProto]]:
    """The image (1, H, W, 3) with rows and columns of one colour around it: its name, and the nodes."""
    from onnx import helper, numpy_helper

    image = graph.input[0]
    _, height, width, _ = (one.dim_value for one in image.type.tensor_type.shape.dim)
    top, left, bottom, right = pads
    name, made = image.name, []
    sides = {1: (top, bottom, (width, 3)), 2: (left, right, (3,))}
    for axis, (before, after, across) in sides.items():
        around: list[list[str]] = []
        for count, side in ((before, "before"), (after, "after")):
            shape = (1, count, *across) if axis == 1 else (1, height + top + bottom, count, *across)
            called = f"{PIXELS}_{side}_{axis}"
            if count:
                border = np.ascontiguousarray(np.broadcast_to(colour, shape))
                graph.initializer.append(numpy_helper.from_array(border, called))
            around.append([called] if count else [])
        if any(around):
            parts, wider = [*around[0], name, *around[1]], f"{PIXELS}_{axis}"
            made.append(helper.make_node("Concat", parts, [wider], f"{wider}_Concat", axis=axis))
            name = wider
    return name, made
