"""Graphs that look right and do what nobody should suffer: refused, in bounded time and memory."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from privynet.exporters import verify

from .hostile import Change, before_the_output, checked_within_limits, forged, reseal


def reshaped_by_values(model: onnx.ModelProto) -> None:
    """A shape that depends on the image."""
    nodes = [
        helper.make_node("ReduceMax", ["inner"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["number"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["number", "zeroth"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["inner", "zero"], ["OUT"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zeroth"))
    before_the_output(*nodes)(model)


def huge_constant(model: onnx.ModelProto) -> None:
    """A terabyte of zeros, summed up: ONNX Runtime computes what is constant when it loads a graph."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("Add", ["inner", "zero"], ["OUT"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**38]), "size"))
    before_the_output(*nodes)(model)


def cycle(model: onnx.ModelProto) -> None:
    before_the_output(helper.make_node("Add", ["inner", "later"], ["OUT"]))(model)
    model.graph.node.append(helper.make_node("Relu", [model.graph.output[0].name], ["later"]))


def missing_value(model: onnx.ModelProto) -> None:
    before_the_output(helper.make_node("Add", ["inner", "nothing"], ["OUT"]))(model)


def other_types(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.int64), "one"))
    before_the_output(helper.make_node("Add", ["inner", "one"], ["OUT"]))(model)


def no_groups(model: onnx.ModelProto) -> None:
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    kept = [one for one in convolution.attribute if one.name != "group"]
    del convolution.attribute[:]
    convolution.attribute.extend([*kept, helper.make_attribute("group", 0)])


def no_strides(model: onnx.ModelProto) -> None:
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    kept = [one for one in convolution.attribute if one.name != "strides"]
    del convolution.attribute[:]
    convolution.attribute.extend([*kept, helper.make_attribute("strides", [0, 0])])


def slice_of_less_than_nothing(model: onnx.ModelProto) -> None:
    """onnx 1.23 ends its process on it: its shape inference asserts that a dimension is not negative."""
    numbers = {
        "pads": [0, 0, 0, 0, 0, 0, 0, -(2**63)],
        "first": [0],
        "end": [2**63 - 1],
        "axis": [3],
        "step": [2],
    }
    for name, values in numbers.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    nodes = [
        helper.make_node("Pad", ["inner", "pads"], ["less"]),
        helper.make_node("Slice", ["less", "first", "end", "axis", "step"], ["OUT"]),
    ]
    before_the_output(*nodes)(model)


def many_in_a_row(model: onnx.ModelProto) -> None:
    """As deep as a graph may be."""
    names = ["inner", *(f"deep_{number}" for number in range(15_000)), "OUT"]
    nodes = [helper.make_node("Relu", [one], [other]) for one, other in itertools.pairwise(names)]
    before_the_output(*nodes)(model)


FAILS_WHEN_RUN: dict[str, tuple[Change, str]] = {
    "a shape that depends on the image": (reshaped_by_values, "no fixed shape"),
    "a terabyte of zeros": (huge_constant, ""),
    "a cycle": (cycle, ""),
    "a value that is not there": (missing_value, ""),
    "types that do not fit": (other_types, ""),
    "a convolution without groups": (no_groups, ""),
    "a convolution without strides": (no_strides, ""),
    "a slice of less than nothing": (
        slice_of_less_than_nothing,
        "crashes what loads it (SIGABRT)|has shapes",
    ),
}


@pytest.mark.parametrize("case", FAILS_WHEN_RUN)
def test_a_graph_that_cannot_run_is_refused_within_limits(small: Path, tmp_path: Path, case: str) -> None:
    change, message = FAILS_WHEN_RUN[case]
    found = checked_within_limits(forged(small, tmp_path, change))["findings"]
    assert [(one["code"], one["file"]) for one in found] == [("graph", "encoder.onnx")]
    assert any(part in found[0]["message"] for part in message.split("|")), found


def test_a_graph_as_deep_as_allowed_is_answered_within_limits(small: Path, tmp_path: Path) -> None:
    found = checked_within_limits(forged(small, tmp_path, many_in_a_row))["findings"]
    assert {one["code"] for one in found} <= {"selftest", "graph"}


def at_black(*made: onnx.NodeProto) -> Change:
    """Nodes that read ``black``: int64 1 where the centre of the image is 0, else 0."""

    def change(model: onnx.ModelProto) -> None:
        ends = {
            "starts": [0, 16, 16, 0],
            "ends": [1, 17, 17, 1],
            "one": [1],
            "zero": [0],
            "least": [-(2**63)],
        }
        model.graph.initializer.extend(
            numpy_helper.from_array(np.array(values, np.int64), name) for name, values in ends.items()
        )
        chosen = [
            helper.make_node("Slice", ["images", "starts", "ends"], ["centre"]),
            helper.make_node("Cast", ["centre"], ["value"], to=TensorProto.INT64),
            helper.make_node("Equal", ["value", "zero"], ["is_black"]),
            helper.make_node("Cast", ["is_black"], ["black"], to=TensorProto.INT64),
        ]
        before_the_output(*made)(model)
        nodes = [*chosen, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return change


CRASHES = at_black(
    helper.make_node("Mul", ["black", "least"], ["numerator"]),
    helper.make_node("Sub", ["zero", "black"], ["minus"]),
    helper.make_node("Sub", ["one", "black"], ["rest"]),
    helper.make_node("Add", ["minus", "rest"], ["divisor"]),
    helper.make_node("Div", ["numerator", "divisor"], ["quotient"]),
    helper.make_node("Mul", ["quotient", "zero"], ["nothing"]),
    helper.make_node("Cast", ["nothing"], ["added"], to=TensorProto.FLOAT),
    helper.make_node("Add", ["inner", "added"], ["OUT"]),
)
"""-2^63 / -1, which processors do not survive."""
FAILS = at_black(
    helper.make_node("Sub", ["one", "black"], ["divisor"]),
    helper.make_node("Mod", ["one", "divisor"], ["remainder"]),
    helper.make_node("Cast", ["remainder"], ["added"], to=TensorProto.FLOAT),
    helper.make_node("Add", ["inner", "added"], ["OUT"]),
)
LEAKS = at_black(
    helper.make_node("Cast", ["black"], ["added"], to=TensorProto.FLOAT),
    helper.make_node("Add", ["inner", "added"], ["OUT"]),
)


def without_black(artifact: Path) -> None:
    """Leave the self-test nothing but images whose centre is not black."""
    with np.load(artifact / "selftest.npz") as archive:
        rows = dict(archive)
    kept = rows["images"][:, 16, 16, 0] > 0
    assert kept.any()
    np.savez(
        artifact / "selftest.npz",
        **{name: array[kept] if array.ndim else array for name, array in rows.items()},
    )
    reseal(artifact)


@pytest.mark.parametrize(
    ("change", "message"),
    [(CRASHES, "crashes what loads it"), (FAILS, "encoder.onnx"), (LEAKS, "differs from torch")],
)
def test_what_a_graph_does_with_images_that_no_self_test_holds_is_found(
    small: Path, tmp_path: Path, change: Change, message: str
) -> None:
    copy = forged(small, tmp_path, change)
    without_black(copy)
    found = [one for one in verify(copy)["findings"] if one["severity"] == "error"]
    assert any(message in (one["file"], one["message"]) or message in one["message"] for one in found), found
