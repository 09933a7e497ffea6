"""An ONNX graph of static shapes as the runtimes' documentation speaks of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul"})
"""The operators that multiply and accumulate."""


class Graph:
    """The nodes of a model in its order, and what is known of each tensor.

    Raises ``onnx.shape_inference.InferenceError`` for a graph whose shapes contradict each other.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx

        self.model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        graph = self.model.graph
        self.nodes = list(graph.node)
        self._weights = {weight.name: weight for weight in graph.initializer}
        self._values = {value.name: value.type.tensor_type for value in _values(graph)}
        self._makers = {name: place for place, node in enumerate(self.nodes) for name in node.output if name}

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; 0 for a dimension that is not known."""
        if name in self._weights:
            return tuple(self._weights[name].dims)
        return tuple(size.dim_value for size in self._values[name].shape.dim)

    def is_float(self, name: str) -> bool:
        """Whether a tensor holds float32."""
        import onnx

        held = self._weights[name].data_type if name in self._weights else self._values[name].elem_type
        return bool(held == onnx.TensorProto.FLOAT)

    def constant(self, name: str) -> NDArray[Any] | None:
        """A weight, or ``None`` for a tensor that is computed."""
        import onnx

        return onnx.numpy_helper.to_array(self._weights[name]) if name in self._weights else None

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a weight, be it one that is kept as integers."""
        maker = self.maker(name)
        return name in self._weights or (
            maker is not None
            and maker.op_type == "DequantizeLinear"
            and all(source in self._weights for source in maker.input if source)
        )

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that computes a tensor."""
        return self.nodes[self._makers[name]] if name in self._makers else None

    def is_dequantised(self, name: str) -> bool:
        """Whether a tensor comes from integers."""
        return self.integers(name) is not None

    def integers(self, name: str) -> int | None:
        """The type of the integers that a tensor comes from, as ONNX counts types; ``None`` for none."""
        maker = self.maker(name)
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        source = maker.input[0]
        held = self._weights[source].data_type if source in self._weights else self._values[source].elem_type
        return int(held)

    def producers(self, place: int) -> list[int]:
        """The places of the nodes that a node reads from."""
        return [self._makers[name] for name in self.nodes[place].input if name in self._makers]

    def network(self) -> set[int]:
        """The places from the first product to the last, on all ways between them."""
        products = {place for place, node in enumerate(self.nodes) if node.op_type in PRODUCTS}
        after = set(products)
        for place in range(len(self.nodes)):
            if not after.isdisjoint(self.producers(place)):
                after.add(place)
        before = set(products)
        for place in reversed(range(len(self.nodes))):
            if place in before:
                before.update(self.producers(place))
        return after & before


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """A node's attribute as Python's value."""
    import onnx

    for one in node.attribute:
        if one.name == name:
            found = onnx.helper.get_attribute_value(one)
            return found.decode() if isinstance(found, bytes) else found
    return default


def runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Indices as runs of neighbours, each from its first to behind its last."""
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


def flat(values: NDArray[Any] | None) -> list[int]:
    """A constant of integers as a list; empty for none."""
    return [] if values is None else [int(value) for value in np.ravel(values)]


def _values(graph: onnx.GraphProto) -> Iterable[onnx.ValueInfoProto]:
    return (*graph.input, *graph.value_info, *graph.output)
