"""Sums of integers are rounded to the same side by every processor, in whatever order it computes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from privynet.encoders import Int8
from privynet.exporters.int8.sums import settled

Grid = tuple[float, int]


def network() -> onnx.ModelProto:
    """The sum of two convolutions' outputs."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 3, 1, 1], np.eye(3, dtype=np.float32).ravel())
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels_"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels_"], ["planes"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w"], ["one"], "first"),
        helper.make_node("Conv", ["one", "w"], ["two"], "second"),
        helper.make_node("Add", ["one", "two"], ["features"], "sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 3, 8, 8])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def sums(first: Grid, second: Grid, total: Grid) -> NDArray[np.float64]:
    """All 65,536, in steps of the total's grid."""
    one, two = ((np.arange(256) - zero) * (scale / total[0]) for scale, zero in (first, second))
    return one[:, None] + two + total[1]


def in_float32(first: Grid, second: Grid, total: Grid) -> list[NDArray[np.float32]]:
    """The same as two kernels compute them: term by term; or with all that is constant in one number, and a
    multiplication that is not rounded before it is added to."""
    steps = np.arange(256, dtype=np.float32)
    ratios = [np.float32(np.float32(scale) / np.float32(total[0])) for scale, _ in (first, second)]
    one, two = (
        (steps - np.float32(zero)) * ratio for (_, zero), ratio in zip((first, second), ratios, strict=True)
    )
    constant = np.float32(total[1]) - ratios[0] * np.float32(first[1]) - ratios[1] * np.float32(second[1])
    fused = steps[:, None].astype(np.float64) * ratios[0] + (steps * ratios[1] + constant)
    computed = (one[:, None] + two + np.float32(total[1]), fused.astype(np.float32))
    return [np.rint(each).clip(0, 255) for each in computed]


@pytest.mark.parametrize(
    ("first", "second", "total"),
    [
        ((0.02, 0), (0.02, 0), (0.04, 0)),
        ((0.137, 131), (0.0274, 0), (0.11, 97)),
        ((0.02836782, 136), (0.02379497, 104), (0.03685436, 127)),
        ((0.5, 128), (0.25, 128), (1.0, 128)),
    ],
)
def test_no_sum_is_rounded_to_two_sides(first: Grid, second: Grid, total: Grid) -> None:
    exact = sums(first, second, total)
    assert (np.abs(exact - np.floor(exact) - 0.5) < 1e-5).any(), "the grids are to be such as need a change"
    grids = settled(network(), Int8(grids={"one": first, "two": second, "features": total}))
    assert (grids["one"], grids["two"]) == (first, second)
    np.testing.assert_array_equal(*in_float32(first, second, grids["features"]))
    assert grids["features"][0] == pytest.approx(total[0], rel=0.035) and grids["features"][1] == total[1]


def test_grids_that_are_fixed_stay() -> None:
    grids = {"one": (0.02, 0), "two": (0.02, 0), "features": (0.04, 0)}
    assert settled(network(), Int8(grids=grids), fixed=["features"]) == grids
