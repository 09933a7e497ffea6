"""Graphs that are still protocol buffers, but other ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 255, 65535, 2**31 - 1, 2**31, 2**40, 2**62)
"""What sizes, axes and integers are made."""


def edit_graph(chance: random.Random, file: Path) -> None:
    """One to four edits, each of a kind drawn anew."""
    model = onnx.load_from_string(file.read_bytes())
    for _ in range(chance.choice((1, 1, 2, 4))):
        chance.choice(GRAPH_EDITS)(chance, model.graph)
    file.write_bytes(model.SerializeToString())


def other_operator(chance: random.Random, graph: onnx.GraphProto) -> None:
    node = chance.choice(graph.node)
    schemas = sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""})
    node.op_type = chance.choice((*schemas, *(one.op_type for one in graph.node), "Nonsense"))


def other_wires(chance: random.Random, graph: onnx.GraphProto) -> None:
    node = chance.choice(graph.node)
    names = [name for one in graph.node for name in (*one.input, *one.output)]
    side = chance.choice((node.input, node.output))
    if side:
        side[chance.randrange(len(side))] = chance.choice((*names, "", "nothing"))


def other_attribute(chance: random.Random, graph: onnx.GraphProto) -> None:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    if not attributes:
        return
    attribute = chance.choice(attributes)
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(NUMBERS)
    elif attribute.HasField("i"):
        attribute.i = chance.choice(NUMBERS)
    elif attribute.HasField("f"):
        attribute.f = chance.choice((float("nan"), float("inf"), -1.0, 0.0, 1e30))
    else:
        attribute.name = chance.choice(("pads", "axis", "group", "strides"))


def new_attribute(chance: random.Random, graph: onnx.GraphProto) -> None:
    names = (
        "axis",
        "group",
        "strides",
        "pads",
        "dilations",
        "kernel_shape",
        "ceil_mode",
        "perm",
        "to",
        "axes",
    )
    value = chance.choice(
        (chance.choice(NUMBERS), [chance.choice(NUMBERS) for _ in range(chance.randint(1, 5))])
    )
    made = onnx.helper.make_attribute(chance.choice(names), value)
    node = chance.choice(graph.node)
    kept = [attribute for attribute in node.attribute if attribute.name != made.name]
    del node.attribute[:]
    node.attribute.extend([*kept, made])


def other_values(chance: random.Random, graph: onnx.GraphProto) -> None:
    tensor = chance.choice(graph.initializer)
    try:
        array = onnx.numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError):  # an earlier edit has given it another shape or type
        return
    if array.size:
        if array.dtype.kind == "f":
            array *= np.float32(chance.choice((0, -1, 1.001, 2, 1e30, np.nan)))
        else:
            # Cut off to the bits that the type has.
            array.flat[chance.randrange(array.size)] = np.int64(chance.choice(NUMBERS)).astype(array.dtype)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def other_shape(chance: random.Random, graph: onnx.GraphProto) -> None:
    tensor = chance.choice(graph.initializer)
    match chance.randrange(4):
        case 0:
            tensor.dims.append(1)
        case 1 if tensor.dims:
            tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(NUMBERS)
        case 2 if len(tensor.dims) > 1:
            sizes = list(tensor.dims)
            chance.shuffle(sizes)
            tensor.dims[:] = sizes
        case _:
            tensor.data_type = chance.randint(0, 25)


def other_nodes(chance: random.Random, graph: onnx.GraphProto) -> None:
    nodes = list(graph.node)
    at = chance.randrange(len(nodes))
    match chance.randrange(3):
        case 0:
            del nodes[at]
        case 1:
            chance.shuffle(nodes)
        case _:
            nodes.insert(chance.randrange(len(nodes)), nodes[at])
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def other_ends(chance: random.Random, graph: onnx.GraphProto) -> None:
    value = chance.choice((*graph.input, *graph.output))
    sizes = value.type.tensor_type.shape.dim
    match chance.randrange(4):
        case 0:
            value.name = chance.choice(("x", *(node.output[0] for node in graph.node)))
        case 1:
            value.type.tensor_type.elem_type = chance.randint(0, 25)
        case 2 if sizes:
            chance.choice(sizes).dim_value = chance.choice(NUMBERS)
        case _:
            sizes.add().dim_value = 1


GRAPH_EDITS: tuple[Callable[[random.Random, onnx.GraphProto], None], ...] = (
    other_operator,
    other_wires,
    other_attribute,
    new_attribute,
    other_values,
    other_shape,
    other_nodes,
    other_ends,
)
