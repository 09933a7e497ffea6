"""Micro-models in int8, as static quantisation writes networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_BOUNDS = ("Relu", "Clip")
"""Quantised numbers are bounded by their range, which takes the place of these."""
_MOVES = ("Reshape", "Transpose")
"""They move what is quantised already."""
_SCALE = 0.05
"""Of activations. What a micro-model computes is of no account, as long as it is computed in integers."""


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """A micro-model with uint8 activations, int8 weights and int32 biases.

    What each operation after the image's preparation makes is quantised and dequantised again, which runtimes
    fuse with the operation.
    """
    from onnx import helper

    growing = _Quantised(model.graph)
    for node in model.graph.node:
        growing.add(node)
    (output,) = model.graph.output
    given = helper.make_tensor_value_info(
        growing.name_of(output.name), output.type.tensor_type.elem_type, None
    )
    given.type.tensor_type.shape.CopyFrom(output.type.tensor_type.shape)
    graph = helper.make_graph(
        growing.nodes, model.graph.name, list(model.graph.input), [given], growing.constants
    )
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


class _Quantised:
    """The graph so far, and which of its tensors stand for those of the model."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = list(graph.initializer)
        self._weight_scales = _weight_scales(graph)
        self._names: dict[str, str] = {}
        self._begun = False

    def name_of(self, name: str) -> str:
        """What stands for one of the model's tensors."""
        return self._names.get(name, name)

    def add(self, node: onnx.NodeProto) -> None:
        """The model's next node."""
        import onnx

        if node.output[0] in self._weight_scales:
            self._add_weights(node)
            return
        if node.op_type == "Conv" and not self._begun:
            self._begun = True
            self._quantise(node.input[0])
        if self._begun and node.op_type in _BOUNDS:
            self._names[node.output[0]] = self.name_of(node.input[0])
            return
        added = onnx.NodeProto()
        added.CopyFrom(node)
        added.input[:] = [self.name_of(name) for name in node.input]
        self.nodes.append(added)
        if self._begun and node.op_type not in _MOVES:
            for name in node.output:
                self._quantise(name)

    def _add_weights(self, node: onnx.NodeProto) -> None:
        """Weights or biases: a shape and one value, as in the model, but whole numbers."""
        from onnx import TensorProto, helper

        (name,) = node.output
        scale, is_bias = self._weight_scales[name]
        kind = TensorProto.INT32 if is_bias else TensorProto.INT8
        # Equal weights would be kept once, and be in a cache the second time.
        value = 1 + len(self.nodes) % 127
        filling = helper.make_tensor("value", kind, [1], [value])
        self.nodes.append(helper.make_node("ConstantOfShape", list(node.input), [f"{name}_q"], value=filling))
        self._names[name] = self._dequantise(f"{name}_q", self._constant(scale))

    def _quantise(self, name: str) -> None:
        from onnx import TensorProto, helper

        scale = self._constant(_SCALE)
        zero = f"{name}_zero"
        self.constants.append(helper.make_tensor(zero, TensorProto.UINT8, [], [0]))
        self.nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]))
        self._names[name] = self._dequantise(f"{name}_q", scale, zero)

    def _dequantise(self, name: str, *parameters: str) -> str:
        from onnx import helper

        made = f"{name}_d"
        self.nodes.append(helper.make_node("DequantizeLinear", [name, *parameters], [made]))
        return made

    def _constant(self, value: float) -> str:
        from onnx import TensorProto, helper

        name = f"scale{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.FLOAT, [], [value]))
        return name


def _weight_scales(graph: onnx.GraphProto) -> dict[str, tuple[float, bool]]:
    """The scale of the weights and biases of convolutions and linear layers, and whether it is a bias.

    Weights are 1 to 127, 64 in the mean: an output is about the mean of its inputs. A convolution of integers
    adds its bias to products, so that it has their scale.
    """
    shapes = {one.name: list(one.int64_data) for one in graph.initializer}
    filled = {
        node.output[0]: shapes[node.input[0]] for node in graph.node if node.op_type == "ConstantOfShape"
    }
    found = {}
    for node in graph.node:
        if node.op_type == "Conv":
            _, weights, bias = node.input
            scale = 1 / (64 * math.prod(filled[weights][1:]))
            found[weights] = (scale, False)
            found[bias] = (_SCALE * scale, True)
        elif node.op_type == "MatMul":
            found[node.input[1]] = (1 / (64 * filled[node.input[1]][0]), False)
    return found
