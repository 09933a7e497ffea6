"""An encoder's ONNX graph in integers, with its payload, from the float32 graph that torch gives."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..onnx_file import anonymise, to_onnx
from .quantising import Grid, bounds, grid_tensors, quantised
from .sums import settled

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import onnx

    from ...artifacts import Payload
    from ...encoders import Encoder, Int8

FEATURES = "features"
"""The output of the float32 graph."""
_COMPUTED = "computed"
"""What a graph that follows it takes."""
_MOVES = {"Flatten", "Gather", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators whose outputs are some of their inputs' values, on these' grid."""


def float_graph(encoder: Encoder) -> onnx.ModelProto:
    """The encoder without noise and payload, from ``images`` to ``features``."""
    import torch

    image = torch.zeros((1, encoder.input_size, encoder.input_size, 3), dtype=torch.uint8)
    return to_onnx(encoder.plain(), [image], input_names=["images"], output_name=FEATURES)


def calibrated(
    graph: onnx.ModelProto, encoder: Encoder, fitted: Mapping[str, Grid], *, in_float: Collection[str] = ()
) -> Int8:
    """The grids that ``graph``, the encoder's ``float_graph``, needs, of those ``fitted`` to all its tensors.

    Features that are sent as integers are on the payload's grid, so that they are rounded once; but not where
    that grid would let through what an activation cuts off, which the quantiser leaves to the grid.
    """
    from ...encoders import Int8

    grids = {name: fitted[name] for name in grid_tensors(graph, in_float=in_float)}
    fixed = []
    last = _last_with_grid(graph, grids)
    if last is not None and _is_sent_as_it_is(encoder) and _ends_within(bounds(graph, last), encoder.payload):
        grids[last] = _payload_grid(encoder)
        fixed = [last]
    int8 = Int8(grids=grids, in_float=tuple(in_float))
    return Int8(grids=settled(graph, int8, fixed=fixed), in_float=int8.in_float)


def int8_graph(graph: onnx.ModelProto, encoder: Encoder, int8: Int8) -> onnx.ModelProto:
    """What ships: ``graph`` in integers, with the encoder's noise and payload, ``images`` to what is sent.

    Raises :class:`InputError` when the grids belong to another graph.
    """
    made = quantised(graph, int8)
    payload = encoder.payload
    last = _last_with_grid(graph, int8.grids)
    if last is not None and _is_sent_as_it_is(encoder) and int8.grids[last] == _payload_grid(encoder):
        made = _ending_in_integers(made, payload.output_name if payload.per_byte == 1 else FEATURES)
        if payload.per_byte > 1:
            made = _followed_by(made, _packing(encoder))
    elif payload.quantised or encoder.noise_std:
        made = _followed_by(made, _sending(encoder))
    anonymise(made)
    return made


def _last_with_grid(graph: onnx.ModelProto, grids: Collection[str]) -> str | None:
    """The tensor whose grid the features have: they are it, or values of it that were only moved. ``None``
    where there is none, or it is read for something else, too."""
    made = {name: node for node in graph.graph.node for name in node.output}
    readers = Counter(name for node in graph.graph.node for name in node.input)
    name = FEATURES
    while name not in grids:
        node = made.get(name)
        if node is None or node.op_type not in _MOVES or readers[node.input[0]] > 1:
            return None
        name = node.input[0]
    return name


def _ends_within(limits: tuple[float, float], payload: Payload) -> bool:
    """Whether what is beyond an activation's limits is rounded to the payload's ends anyway."""
    # Two scales that can be fitted lie 0.4 % apart, so that the ends of a fitted grid may be as far off.
    low, high = (limit * (1 + 1 / 256) / payload.scale + payload.zero_point for limit in limits)
    return low <= 0.5 and high >= payload.top - 0.5


def _is_sent_as_it_is(encoder: Encoder) -> bool:
    payload = encoder.payload
    return payload.quantised and not encoder.noise_std and 0 <= payload.zero_point <= 255


def _payload_grid(encoder: Encoder) -> Grid:
    return (encoder.payload.scale, encoder.payload.zero_point)


def _ending_in_integers(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same graph without the last step, from integers to features; they are called ``name``."""
    from onnx import TensorProto

    graph = model.graph
    (last,) = (node for node in graph.node if FEATURES in node.output)
    integers = last.input[0]
    graph.node.remove(last)
    for node in graph.node:
        node.output[:] = [name if one == integers else one for one in node.output]
    output = graph.output[0]
    output.name = name
    output.type.tensor_type.elem_type = TensorProto.UINT8
    return model


def _packing(encoder: Encoder) -> onnx.ModelProto:
    """From integers, uint8 (1, C, h, w), to several in a byte."""
    import torch
    from torch import Tensor, nn

    from ...encoders.payload import packed

    class Packing(nn.Module):
        def forward(self, steps: Tensor) -> Tensor:
            return packed(steps.to(torch.float32), encoder.payload)

    steps = torch.zeros((1, *encoder.feature_shape), dtype=torch.uint8)
    return to_onnx(Packing(), [steps], input_names=[_COMPUTED], output_name=encoder.payload.output_name)


def _sending(encoder: Encoder) -> onnx.ModelProto:
    """From features, float32 (1, C, h, w), and noise to what is sent."""
    import torch
    from torch import Tensor, nn

    from ...encoders.payload import sent

    class Sending(nn.Module):
        def forward(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
            noisy = features if noise is None else features + noise * encoder.noise_std
            return sent(noisy, encoder.payload)

    # Tensors of their own: one that is given twice is exported as one input.
    examples = [torch.zeros((1, *encoder.feature_shape)) for _ in range(2 if encoder.noise_std else 1)]
    names = [_COMPUTED, "noise"] if encoder.noise_std else [_COMPUTED]
    return to_onnx(Sending(), examples, input_names=names, output_name=encoder.payload.output_name)


def _followed_by(model: onnx.ModelProto, tail: onnx.ModelProto) -> onnx.ModelProto:
    from onnx import compose

    joined = compose.merge_models(
        compose.add_prefix(model, "core_", rename_inputs=False, rename_outputs=True),
        tail,
        io_map=[(f"core_{FEATURES}", _COMPUTED)],
    )
    made: onnx.ModelProto = joined
    return made
