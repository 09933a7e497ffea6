"""Truncating a network at a cut and keeping only the chosen channels, by slicing weights.

The kept channels are asked for at the cut; every operation before it asks its inputs for what it needs, back
to the image. What nobody asks for is not built. A convolution gives any of its output channels in any order
(rows of its weights) and takes its inputs in any order (columns), so:

- where several readers want different channels of one tensor (a residual addition wants the kept ones, the
  block beside it all), the tensor's channels are reordered once, in the weights, such that each reader gets a
  contiguous slice;
- channel shuffles, splits and concatenations in front of convolutions vanish into the order of weights.

A gather remains only where an operation fixes an order that no slice gives; it is counted. Operations whose
channels cannot be told apart are kept whole, with all that they read.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from ..errors import InputError
from .channel_demands import ChannelPlan, convolution_of, is_channelwise, is_free
from .channel_moves import ChannelMoves, Channels, Piece, all_channels
from .operators import Kind, kind_of, module_of, new_buffer, new_module
from .shapes import channels_of, gives_tensor
from .weight_slicing import slice_convolution, slice_normalisation


@dataclass(frozen=True)
class SlicedEncoder:
    """A truncated and sliced graph with shapes, and how many gathers it could not avoid."""

    graph_module: fx.GraphModule
    gathers: int


def slice_encoder(traced: fx.GraphModule, cut: fx.Node, channels: Sequence[int]) -> SlicedEncoder:
    """Truncate a canonical graph at ``cut`` and keep ``channels`` of it, in the order given.

    ``traced`` is left as it is; tensors that stay whole are shared with it.

    Raises:
        InputError: no channel, one that does not exist, or one twice.
    """
    available = channels_of(cut)
    kept = tuple(int(channel) for channel in channels)
    if not kept or len(set(kept)) != len(kept) or not all(0 <= channel < available for channel in kept):
        raise InputError(f"channels must be different numbers from 0 to {available - 1}, at least one")
    truncated = truncate(traced, cut)
    gathers = 0
    if kept != tuple(range(available)):
        output = next(node for node in truncated.graph.nodes if node.op == "output").all_input_nodes[0]
        truncated, gathers = _Slicer(truncated, output, kept).build()
    return SlicedEncoder(truncated, gathers)


def ungathered_order(traced: fx.GraphModule, cut: fx.Node, channels: Sequence[int]) -> Channels:
    """The same channels in an order that needs no gather at the cut: grouped by where they come from."""
    pieces = ChannelMoves().pieces(cut, channels)
    return tuple(channel for piece in pieces for channel in piece.channels)


def truncate(traced: fx.GraphModule, outputs: fx.Node | Mapping[str, fx.Node]) -> fx.GraphModule:
    """A canonical graph that ends with one of its nodes, or gives several by name.

    ``traced`` is left as it is; its parameters are shared.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    asked = {outputs} if isinstance(outputs, fx.Node) else set(outputs.values())
    for node in traced.graph.nodes:
        copies[node] = graph.node_copy(node, lambda argument: copies[argument])
        if asked <= copies.keys():
            break
    graph.output(
        copies[outputs]
        if isinstance(outputs, fx.Node)
        else {name: copies[node] for name, node in outputs.items()}
    )
    truncated = fx.GraphModule(traced, graph)
    truncated.graph.eliminate_dead_code()
    truncated.delete_all_unused_submodules()
    truncated.recompile()
    return truncated


class _Slicer:
    """Rebuilds one truncated graph for the kept channels."""

    def __init__(self, whole: fx.GraphModule, output: fx.Node, kept: Channels) -> None:
        self.whole, self.output, self.kept = whole, output, kept
        self.plan = ChannelPlan(whole.graph, output, kept)
        self.gathers = 0

    def build(self) -> tuple[fx.GraphModule, int]:
        self.graph = fx.Graph()
        self.built: dict[fx.Node, fx.Node] = {}
        for node in self.whole.graph.nodes:
            if node in self.plan.demands:
                self.built[node] = self._emit(node)
        result, _ = self._fetch(self.output, self.kept, ordered=True)
        self.graph.output(result)
        return fx.GraphModule(self.whole, self.graph), self.gathers

    def _fetch(self, node: fx.Node, channels: Channels, *, ordered: bool) -> tuple[fx.Node, Channels]:
        """A node of the new graph with ``channels`` of ``node``; and the order they are in."""
        parts: list[fx.Node] = []
        got: list[int] = []
        for piece in self.plan.moves.pieces(node, channels):
            part, order = self._fetch_piece(piece, ordered=ordered)
            parts.append(part)
            got += order
        result = parts[0]
        if len(parts) > 1:
            result = self._with_shape(self.graph.call_function(torch.cat, (parts, 1)), parts[0], len(got))
        if ordered and tuple(got) != channels:
            result = self._gather(result, [got.index(channel) for channel in channels])
            got = list(channels)
        return result, tuple(got)

    def _fetch_piece(self, piece: Piece, *, ordered: bool) -> tuple[fx.Node, Channels]:
        have, source = self.plan.order[piece.source], self.built[piece.source]
        if piece.source_channels == have:
            return source, piece.channels
        position = {channel: at for at, channel in enumerate(have)}
        places = [position[channel] for channel in piece.source_channels]
        own = dict(zip(places, piece.channels, strict=False))
        start, length = min(places), len(places)
        contiguous = sorted(places) == list(range(start, start + length))
        if not contiguous or (ordered and places != sorted(places)):
            return self._gather(source, places), piece.channels
        order = tuple(own[place] for place in range(start, start + length))
        if length == len(have):
            return source, order
        window = (slice(None), slice(start, start + length))
        return self._with_shape(
            self.graph.call_function(operator.getitem, (source, window)), source, length
        ), order

    def _gather(self, source: fx.Node, places: list[int]) -> fx.Node:
        self.gathers += 1
        name = new_buffer(self.whole, f"kept_{self.gathers}", torch.tensor(places))
        gathered = self.graph.call_function(torch.index_select, (source, 1, self.graph.get_attr(name)))
        return self._with_shape(gathered, source, len(places))

    def _emit(self, node: fx.Node) -> fx.Node:
        if self.plan.passes_on(node):
            union = {channel for demand in self.plan.demands[node] for channel in demand.channels}
            source, self.plan.order[node] = self._fetch(
                node.all_input_nodes[0], tuple(sorted(union)), ordered=False
            )
            return self._emit_channelwise(node, source)
        order = self.plan.order[node]
        if node.op == "placeholder":
            made = self.graph.placeholder(node.name)
        elif is_channelwise(node) and is_free(node):
            source, _ = self._fetch(node.all_input_nodes[0], order, ordered=True)
            return self._emit_channelwise(node, source)
        elif kind_of(node) is Kind.CONVOLUTION:
            made = self._emit_convolution(node, order)
        else:
            operands = {source: self._operand(node, source) for source in node.all_input_nodes}
            made = self.graph.node_copy(node, lambda argument: operands[argument])
        return self._with_shape(made, node, len(order))

    def _operand(self, node: fx.Node, source: fx.Node) -> fx.Node:
        if not gives_tensor(source):
            return self.built[source]
        channels = self.plan.operand_channels(node, source)
        if source.op == "get_attr":
            return self._constant(source, channels)
        return self._fetch(source, channels, ordered=True)[0]

    def _constant(self, node: fx.Node, channels: Channels) -> fx.Node:
        if channels == all_channels(node):
            return self.graph.get_attr(str(node.target))
        path, _, name = str(node.target).rpartition(".")
        value = getattr(self.whole.get_submodule(path), name)
        kept = f"{name}_kept_{len(self.graph.nodes)}"
        return self.graph.get_attr(new_buffer(self.whole, kept, value[:, list(channels)]))

    def _emit_channelwise(self, node: fx.Node, source: fx.Node) -> fx.Node:
        order = self.plan.order[node]
        made = self.graph.node_copy(node, lambda _: source)
        module = module_of(node) if node.op == "call_module" else None
        if order != all_channels(node) and isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            sliced = (
                slice_convolution(module, order, order)
                if isinstance(module, nn.Conv2d)
                else slice_normalisation(module, order)
            )
            made.target = new_module(self.whole, f"{node.target}_kept", sliced)
        return self._with_shape(made, node, len(order))

    def _with_shape(self, made: fx.Node, like: fx.Node, channels: int) -> fx.Node:
        if not gives_tensor(like):
            made.meta = dict(like.meta)
            return made
        shape = like.meta["shape"]
        made.meta = {**like.meta, "shape": (shape[0], channels, *shape[2:]) if len(shape) == 4 else shape}
        return made

    def _emit_convolution(self, node: fx.Node, order: Channels) -> fx.Node:
        convolution = convolution_of(node)
        demand = self.plan.convolution_demand(node)
        source, columns = self._fetch(node.all_input_nodes[0], demand.channels, ordered=demand.ordered)
        target = str(node.target)
        if (order, columns) != (
            tuple(range(convolution.out_channels)),
            tuple(range(convolution.in_channels)),
        ):
            target = new_module(self.whole, f"{target}_kept", slice_convolution(convolution, order, columns))
        return self.graph.call_module(target, (source,))
