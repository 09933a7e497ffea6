"""Rewritten graphs compute what they did before, with operators that more runtimes have."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from privynet.exporters.onnx_rewrites import rewrite_for, simplify

IMAGES = np.random.default_rng(0).standard_normal((1, 4, 9, 9)).astype(np.float32)


def model(nodes: list[onnx.NodeProto], out: list[int], **constants: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A graph from ``x`` (1, 4, 9, 9) to ``y``, with its constants by name."""
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(graph: onnx.ModelProto) -> np.ndarray[Any, Any]:
    onnx.checker.check_model(graph, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: np.ndarray[Any, Any] = session.run(None, {"x": IMAGES})[0]
    return result


def operators(graph: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph.node)


def longs(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


WEIGHTS = np.random.default_rng(1).standard_normal((5, 4, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("axes", ((2, 3), (3, 2), (-2, -1)))
def test_a_mean_over_the_image_becomes_pooling(axes: tuple[int, ...]) -> None:
    graph = model([helper.make_node("ReduceMean", ["x", "axes"], ["y"])], [1, 4, 1, 1], axes=longs(*axes))
    before = run(graph)
    simplify(graph)
    assert operators(graph) == {"GlobalAveragePool": 1}
    assert not graph.graph.initializer
    np.testing.assert_allclose(run(graph), before, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("axes", "keep", "out"), (((1,), 1, [1, 1, 9, 9]), ((2, 3), 0, [1, 4]), ((3,), 1, [1, 4, 9, 1]))
)
def test_another_mean_stays(axes: tuple[int, ...], keep: int, out: list[int]) -> None:
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keep)
    graph = model([node], out, axes=longs(*axes))
    before = graph.SerializeToString()
    simplify(graph)
    assert graph.SerializeToString() == before


def padded(
    around: list[int], *, value: float = 0.0, mode: str = "constant", **convolution: Any
) -> onnx.ModelProto:
    """``Pad`` and two convolutions that read it."""
    nodes = [
        helper.make_node("Pad", ["x", "pads", "value"], ["p"], mode=mode),
        helper.make_node("Conv", ["p", "w"], ["a"], **convolution),
        helper.make_node("Conv", ["p", "w"], ["b"], **convolution),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    inferred = onnx.shape_inference.infer_shapes(
        model(nodes, [1, 5, 1, 1], pads=longs(*around), value=np.float32(value), w=WEIGHTS)
    )
    shape = next(one for one in inferred.graph.value_info if one.name == "a").type.tensor_type.shape
    sizes = [size.dim_value for size in shape.dim]
    return model(nodes, sizes, pads=longs(*around), value=np.float32(value), w=WEIGHTS)


@pytest.mark.parametrize(
    ("pads", "convolution"),
    (
        ([0, 0, 0, 0, 0, 0, 1, 1], {"strides": [2, 2]}),
        ([0, 0, 1, 2, 0, 0, 3, 0], {"pads": [1, 1, 0, 2]}),
    ),
)
def test_zeros_around_an_image_become_the_convolutions(pads: list[int], convolution: dict[str, Any]) -> None:
    graph = padded(pads, **convolution)
    before = run(graph)
    simplify(graph)
    assert operators(graph) == {"Conv": 2, "Add": 1}
    np.testing.assert_allclose(run(graph), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    (
        {"around": [0, 0, 0, 0, 0, 0, 1, 1], "value": 1.0},
        {"around": [0, 0, 0, 0, 0, 0, 1, 1], "mode": "reflect"},
        {"around": [0, 0, -1, 0, 0, 0, 1, 1]},
        {"around": [0, 0, 0, 0, 0, 0, 1, 1], "auto_pad": "SAME_UPPER"},
    ),
)
def test_other_padding_stays(options: dict[str, Any]) -> None:
    graph = padded(**options)
    simplify(graph)
    assert operators(graph)["Pad"] == 1


def test_padding_that_something_else_reads_stays() -> None:
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["p"], ["r"]),
        helper.make_node("Conv", ["r", "w"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = model(nodes, [1, 5, 10, 10], pads=longs(0, 0, 0, 0, 0, 0, 1, 1), w=WEIGHTS)
    before = run(graph)
    simplify(graph)
    assert operators(graph)["Pad"] == 1
    np.testing.assert_array_equal(run(graph), before)


@pytest.mark.parametrize(
    ("runtime", "kind", "attributes", "made"),
    (
        ("nnapi", "HardSigmoid", {}, {"Mul": 1, "Add": 1, "Clip": 1}),
        ("nnapi", "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, {"Mul": 1, "Add": 1, "Clip": 1}),
        ("nnapi", "HardSwish", {}, {"Mul": 2, "Add": 1, "Clip": 1}),
        ("coreml", "HardSwish", {}, {"HardSigmoid": 1, "Mul": 1}),
    ),
)
def test_a_runtime_gets_operators_that_it_has(
    runtime: str, kind: str, attributes: dict[str, float], made: dict[str, int]
) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "spread"], ["s"]),
        helper.make_node(kind, ["s"], ["y"], **attributes),
    ]
    graph = model(nodes, [1, 4, 9, 9], spread=np.float32(4))
    before = run(graph)
    simplify(graph)
    assert operators(graph) == {"Mul": 1, kind: 1}, "only for who asks"
    rewrite_for(graph, runtime)
    assert operators(graph) == Counter({"Mul": 1}) + Counter(made)
    np.testing.assert_allclose(run(graph), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("indices", "slices"), (([3, 0, 1, 2], 2), ([0, 2], 2), ([1, 2, 3], 1), ([2, 2], 2)))
def test_channels_are_sliced_for_coreml(indices: list[int], slices: int) -> None:
    node = helper.make_node("Gather", ["x", "indices"], ["y"], axis=1)
    graph = model([node], [1, len(indices), 9, 9], indices=longs(*indices))
    before = run(graph)
    rewrite_for(graph, "coreml")
    assert operators(graph) == {"Slice": slices, "Concat": 1}
    np.testing.assert_array_equal(run(graph), before)


def test_who_has_all_of_it_gets_the_graph_as_it_is() -> None:
    graph = model([helper.make_node("HardSwish", ["x"], ["y"])], [1, 4, 9, 9])
    before = graph.SerializeToString()
    rewrite_for(graph, "cpu")
    assert graph.SerializeToString() == before
