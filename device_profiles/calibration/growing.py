"""An ONNX graph that grows operation by operation, from an image on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_OPSET = 18
_IR_VERSION = 9


class GrowingNetwork:
    """A network whose last tensor, ``tensor``, has ``channels`` channels of ``size`` x ``size``.

    It begins as an exported encoder does: uint8 NHWC pixels are permuted, cast and normalised. Weights are
    written as a shape and one value, so that a file takes some kilobytes; ONNX Runtime makes ordinary weights
    of them when it loads the file.
    """

    def __init__(self, size: int) -> None:
        self.input_size = self.size = size
        self.channels = 3
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._macs: list[int] = []  # one list for all branches of a graph
        self.tensor = self.add("Transpose", "image", perm=[0, 3, 1, 2])
        self.apply("Cast", to=1)
        self.apply("Mul", self.floats(1, 3, 1, 1, value=0.02))
        self.apply("Add", self.floats(1, 3, 1, 1, value=-1.0))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the graph so far."""
        return sum(self._macs)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append an operation; returns the name of the tensor that it makes."""
        return self.add_many(operator, *inputs, outputs=1, **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """As :meth:`add`, for an operation that makes several tensors."""
        from onnx import helper

        names = [f"t{len(self._nodes)}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def apply(self, operator: str, *others: str, **attributes: Any) -> None:
        """Append an operation on the last tensor, of which it keeps the shape."""
        self.tensor = self.add(operator, self.tensor, *others, **attributes)

    def integers(self, *values: int) -> str:
        """A vector of integers: axes, sizes."""
        from onnx import TensorProto, helper

        name = f"c{len(self._constants)}"
        self._constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def _number(self, value: float) -> str:
        from onnx import TensorProto, helper

        name = f"c{len(self._constants)}"
        self._constants.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name

    def floats(self, *shape: int, value: float) -> str:
        """A weight of one value, a little other for each: ONNX Runtime keeps equal weights once, and what is
        read twice is in a cache the second time."""
        from onnx import TensorProto, helper

        own = value * (1 + len(self._nodes) / 1000)
        filling = helper.make_tensor("value", TensorProto.FLOAT, [1], [own])
        return self.add("ConstantOfShape", self.integers(*shape), value=filling)

    def convolve(
        self, channels: int, *, window: int = 1, stride: int = 1, groups: int = 1, activation: str = ""
    ) -> None:
        """A convolution with zero padding, and an activation: ``""`` for none, ``"SiLU"``, or ONNX's name."""
        inner, pad = self.channels // groups, window // 2
        weight = self.floats(channels, inner, window, window, value=1 / (inner * window**2))
        bias = self.floats(channels, value=0.01)
        self.apply("Conv", weight, bias, strides=[stride] * 2, pads=[pad] * 4, group=groups)
        self.size = (self.size + 2 * pad - window) // stride + 1
        self.channels = channels
        self._macs.append(channels * self.size**2 * inner * window**2)
        if activation == "SiLU":
            self.gate_by_sigmoid()
        elif activation == "Clip":
            self.apply("Clip", self._number(0.0), self._number(6.0))
        elif activation:
            self.apply(activation)

    def gate_by_sigmoid(self) -> None:
        """SiLU."""
        self.tensor = self.add("Mul", self.tensor, self.add("Sigmoid", self.tensor))

    def project(self, channels: int) -> None:
        """A linear layer over the last axis, without a bias."""
        self.apply("MatMul", self.floats(self.channels, channels, value=1 / self.channels))
        self._macs.append(self.size**2 * self.channels * channels)
        self.channels = channels

    def pool(self, operator: str = "MaxPool", *, window: int = 2, padded: bool = False) -> None:
        """A pooling of stride 2."""
        pad = window // 2 if padded else 0
        self.apply(operator, kernel_shape=[window] * 2, strides=[2, 2], pads=[pad] * 4)
        self.size = (self.size + 2 * pad - window) // 2 + 1

    def fork(self) -> GrowingNetwork:
        """A branch that starts at the last tensor and grows the same graph."""
        return copy.copy(self)

    def join(self, operator: str, branch: GrowingNetwork, **attributes: Any) -> None:
        """Combine the last tensor with a branch's."""
        self.tensor = self.add(operator, self.tensor, branch.tensor, **attributes)

    def model(self) -> onnx.ModelProto:
        """The graph so far, its last tensor the output."""
        from onnx import TensorProto, helper

        pixels = [1, self.input_size, self.input_size, 3]
        shape = [1, self.channels, self.size, self.size]
        graph = helper.make_graph(
            self._nodes,
            "micro",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, pixels)],
            [helper.make_tensor_value_info(self.tensor, TensorProto.FLOAT, shape)],
            self._constants,
        )
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
