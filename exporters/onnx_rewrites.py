"""Exact rewrites of an exported graph, for what runtimes know better or at all.

``simplify`` is for every graph: what it makes is understood by more runtimes and is never slower.
``rewrite_for`` writes operators that one runtime lacks with those that it has; elsewhere that is slower, so
it is done only for who asks for that runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .runtimes.graph import attribute, flat, runs

if TYPE_CHECKING:
    from typing import Any

    import onnx

_HARD_SWISH = (1 / 6, 0.5)
_HARD_SIGMOID = (0.2, 0.5)
"""ONNX's defaults: alpha and beta of max(0, min(1, alpha * x + beta))."""


def simplify(model: onnx.ModelProto) -> None:
    """Rewrite a model in place without a change of what it computes.

    A mean over height and width that keeps its axes becomes a ``GlobalAveragePool`` (which keeps ONNX
    Runtime's blocked layout of channels), and padding with zeros that convolutions alone read becomes theirs.
    """
    _rewrite(model, {"ReduceMean": _pool, "Pad": _into_convolutions})


def rewrite_for(model: onnx.ModelProto, runtime: str) -> None:
    """Rewrite a model in place with what ``runtime`` has.

    NNAPI has no ``HardSigmoid``, neither it nor CoreML has ``HardSwish``, and CoreML has no ``Gather``.
    """
    _rewrite(model, REWRITES_FOR.get(runtime, {}))


class _Graph:
    """A graph that is rewritten: what is known of its tensors, and where new ones are made."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx

        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.proto = model.graph
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        self._ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
        self._weights = {weight.name: weight for weight in self.proto.initializer}
        self._taken = {name for node in self.proto.node for name in (*node.input, *node.output)}

    def rank(self, name: str) -> int | None:
        """How many axes a tensor has."""
        return self._ranks.get(name)

    def constant(self, name: str) -> NDArray[Any] | None:
        """A weight, or ``None`` for a tensor that is computed."""
        import onnx

        return onnx.numpy_helper.to_array(self._weights[name]) if name in self._weights else None

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.proto.node if name in node.input]

    def is_output(self, name: str) -> bool:
        """Whether a tensor leaves the graph."""
        return any(output.name == name for output in self.proto.output)

    def name(self, like: str) -> str:
        """A name that no tensor has."""
        number = next(n for n in range(len(self._taken) + 1) if f"{like}_{n}" not in self._taken)
        self._taken.add(f"{like}_{number}")
        return f"{like}_{number}"

    def weight(self, values: NDArray[Any]) -> str:
        """The name of a new weight."""
        import onnx

        name = self.name("rewritten")
        self._weights[name] = onnx.numpy_helper.from_array(values, name)
        self.proto.initializer.append(self._weights[name])
        return name


_Rewrite = Callable[[_Graph, "onnx.NodeProto"], "list[onnx.NodeProto] | None"]
"""From a node to those in its place, or ``None`` to leave it."""


def _rewrite(model: onnx.ModelProto, rewrites: Mapping[str, _Rewrite]) -> None:
    if not any(node.op_type in rewrites for node in model.graph.node):
        return
    graph = _Graph(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        made = rewrites[node.op_type](graph, node) if node.op_type in rewrites else None
        nodes += [node] if made is None else made
    # Copies, because clearing the field ends what it held.
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input} | {output.name for output in model.graph.output}
    weights = [weight for weight in model.graph.initializer if weight.name in used]
    copies = [type(weight).FromString(weight.SerializeToString()) for weight in weights]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)


def _pool(graph: _Graph, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    axes = [axis % 4 for axis in flat(graph.constant(node.input[1]))] if len(node.input) > 1 else []
    if graph.rank(node.input[0]) != 4 or sorted(axes) != [2, 3] or not attribute(node, "keepdims", 1):
        return None
    return [_node("GlobalAveragePool", node.input[:1], node.output)]


def _into_convolutions(graph: _Graph, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    padding = _zeros_around(graph, node)
    readers = graph.readers(node.output[0])
    if (
        padding is None
        or graph.is_output(node.output[0])
        or any(
            reader.op_type != "Conv"
            or list(reader.input).index(node.output[0]) != 0
            or attribute(reader, "auto_pad", "NOTSET") != "NOTSET"
            for reader in readers
        )
    ):
        return None
    import onnx

    for reader in readers:
        own = attribute(reader, "pads", [0, 0, 0, 0])
        kept = [one for one in reader.attribute if one.name != "pads"]
        del reader.attribute[:]
        together = [int(a + b) for a, b in zip(own, padding, strict=True)]
        reader.attribute.extend([*kept, onnx.helper.make_attribute("pads", together)])
        reader.input[0] = node.input[0]
    return []


def _zeros_around(graph: _Graph, node: onnx.NodeProto) -> list[int] | None:
    """Top, left, bottom and right of a ``Pad`` that puts zeros around images; ``None`` for any other."""
    inputs = [*node.input, "", "", ""][:4]
    pads, filled, axes = (graph.constant(name) if name else None for name in inputs[1:])
    rank = graph.rank(inputs[0])
    zeros = not inputs[2] or (filled is not None and not np.any(filled))
    if rank != 4 or pads is None or (inputs[3] and axes is None) or not zeros:
        return None
    if attribute(node, "mode", "constant") != "constant" or np.any(pads < 0):
        return None
    places = [axis % 4 for axis in flat(axes)] or [0, 1, 2, 3]
    around = dict(zip([*places, *(place + 4 for place in places)], flat(pads), strict=True))
    if any(around.get(place, 0) for place in (0, 1, 4, 5)):
        return None
    return [around.get(place, 0) for place in (2, 3, 6, 7)]


def _clipped_line(graph: _Graph, source: str, result: str, line: tuple[float, float]) -> list[onnx.NodeProto]:
    """max(0, min(1, alpha * x + beta))."""
    alpha, beta, zero, one = (graph.weight(np.array(value, np.float32)) for value in (*line, 0, 1))
    scaled, shifted = graph.name("scaled"), graph.name("shifted")
    return [
        _node("Mul", [source, alpha], [scaled]),
        _node("Add", [scaled, beta], [shifted]),
        _node("Clip", [shifted, zero, one], [result]),
    ]


def _hard_sigmoid(graph: _Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    alpha, beta = _HARD_SIGMOID
    line = (attribute(node, "alpha", alpha), attribute(node, "beta", beta))
    return _clipped_line(graph, node.input[0], node.output[0], line)


def _hard_swish(graph: _Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    gate = graph.name("gate")
    line = _clipped_line(graph, node.input[0], gate, _HARD_SWISH)
    return [*line, _node("Mul", [node.input[0], gate], node.output)]


def _gated(graph: _Graph, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """What ONNX defines ``HardSwish`` to be."""
    gate, (alpha, beta) = graph.name("gate"), _HARD_SWISH
    return [
        _node("HardSigmoid", node.input, [gate], alpha=alpha, beta=beta),
        _node("Mul", [node.input[0], gate], node.output),
    ]


def _in_slices(graph: _Graph, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """Channels by their runs of neighbours, one below the other."""
    indices = graph.constant(node.input[1])
    axis = attribute(node, "axis", 0)
    if indices is None or indices.ndim != 1 or np.any(indices < 0) or axis < 0:
        return None
    found = runs(flat(indices))
    ends = [graph.weight(np.array([at], np.int64)) for run in found for at in run]
    axes = graph.weight(np.array([axis], np.int64))
    parts = [graph.name("part") for _ in found]
    slices = [
        _node("Slice", [node.input[0], first, last, axes], [part])
        for first, last, part in zip(ends[::2], ends[1::2], parts, strict=True)
    ]
    return [*slices, _node("Concat", parts, node.output, axis=axis)]


REWRITES_FOR: dict[str, dict[str, _Rewrite]] = {
    "nnapi": {"HardSigmoid": _hard_sigmoid, "HardSwish": _hard_swish},
    "coreml": {"HardSwish": _gated, "Gather": _in_slices},
}


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> onnx.NodeProto:
    import onnx

    return onnx.helper.make_node(kind, list(inputs), list(outputs), **attributes)
