"""Grids on which no sum falls on the edge between two steps, where processors round to different sides."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from ...artifacts import scales_near
from .quantising import Grid, quantised

if TYPE_CHECKING:
    import onnx

    from ...encoders import Int8

_ENOUGH = 2e-5
"""Of a step. Kernels multiply and add in float32, in an order and with roundings of their own: what is nearer
to an edge may be rounded to either side."""
_TRIED = 17


def settled(model: onnx.ModelProto, int8: Int8, *, fixed: Collection[str] = ()) -> dict[str, Grid]:
    """The grids of ``int8``, with scales of sums moved by up to 3 % where values would fall on edges.

    ``model``: float32; ``fixed``: tensors whose grids stay as they are. A value on the edge is one step on
    x86 and another on Arm, and what follows from it differs.
    """
    grids = dict(int8.grids)
    for first, second, total in _sums(quantised(model, int8)):
        if total in fixed or not {first, second, total} <= grids.keys():
            continue
        scale, zero = grids[total]
        near = [(one, zero) for one in scales_near(scale, _TRIED)]
        grids[total] = max(near, key=lambda grid: min(_ENOUGH, _distance(grids[first], grids[second], grid)))
    return grids


def _sums(model: onnx.ModelProto) -> list[tuple[str, str, str]]:
    """The tensors of each addition in integers, in the graph's order: both summands and the sum."""
    made = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}
    found = []
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        around = [*(made.get(name) for name in node.input), readers.get(node.output[0])]
        scales = [
            one.input[1].removesuffix("_scale")
            for one in around
            if one is not None and one.op_type in ("QuantizeLinear", "DequantizeLinear")
        ]
        if len(scales) == 3:
            found.append((scales[0], scales[1], scales[2]))
    return found


def _distance(first: Grid, second: Grid, total: Grid) -> float:
    """How near the sum of any two steps comes to the middle between two steps, as a share of a step."""
    steps = np.arange(256)
    (scale, zero), (other_scale, other_zero), (step, offset) = first, second, total
    sums = (steps - zero)[:, None] * (scale / step) + (steps - other_zero) * (other_scale / step) + offset
    unclipped = sums[(sums > 0) & (sums < 255)]
    return float(np.abs(unclipped - np.floor(unclipped) - 0.5).min(initial=0.5))
