"""Truncating a network at a cut and keeping only the chosen channels, by slicing weights.

The kept channels are asked for at the cut; every operation before it asks its inputs for what it needs, back
to the image. What nobody asks for is not built. A convolution gives any of its output channels in any order
(rows of its weights) and takes its inputs in any order (columns), so:

- where several readers want different channels of one tensor (a residual addition wants the kept ones, the
  block beside it all), the tensor's channels are reordered once, in the weights, such that each reader gets a
  contiguous slice;
- channel shuffles, splits and concatenations in front of convolutions vanish into the order of weights.

A gather remains only where an operation fixes an order that no slice gives; it is counted.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from ..errors import InputError
from .operators import Kind, kind_of, module_of, new_module
from .tracing import channels_of, gives_tensor

Channels = tuple[int, ...]

_CHANNELWISE = (Kind.ACTIVATION, Kind.NORMALISATION, Kind.POOL, Kind.PAD)
_VIRTUAL = (Kind.LAYOUT, Kind.CONCATENATE)


@dataclass(frozen=True)
class SlicedEncoder:
    """A truncated and sliced graph with shapes, and how many gathers it could not avoid."""

    graph_module: fx.GraphModule
    gathers: int


@dataclass(frozen=True)
class _Demand:
    """What a reader wants of a tensor: these channels, in this order or (a dense convolution) in any."""

    channels: Channels
    ordered: bool


@dataclass(frozen=True)
class _Piece:
    """A run of a tensor's channels that comes from one source: ``channels`` in the reader's numbering."""

    source: fx.Node
    source_channels: Channels
    channels: Channels


@dataclass
class _Plan:
    """For each tensor that is built: the channels it will hold, in order."""

    order: dict[fx.Node, Channels] = field(default_factory=dict)
    demands: dict[fx.Node, list[_Demand]] = field(default_factory=dict)


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
    truncated, output = _truncate(traced, cut)
    gathers = 0
    if kept != tuple(range(available)):
        truncated, gathers = _Slicer(truncated, output, kept).build()
    return SlicedEncoder(truncated, gathers)


def ungathered_order(traced: fx.GraphModule, cut: fx.Node, channels: Sequence[int]) -> Channels:
    """The same channels in an order that needs no gather at the cut: grouped by where they come from."""
    pieces = _Slicer(traced, cut, tuple(channels)).pieces(cut, tuple(channels))
    return tuple(channel for piece in pieces for channel in piece.channels)


def _truncate(traced: fx.GraphModule, cut: fx.Node) -> tuple[fx.GraphModule, fx.Node]:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        copies[node] = graph.node_copy(node, lambda argument: copies[argument])
        if node is cut:
            break
    graph.output(copies[cut])
    truncated = fx.GraphModule(traced, graph)
    truncated.graph.eliminate_dead_code()
    truncated.delete_all_unused_submodules()
    return truncated, copies[cut]


class _Slicer:
    """Rebuilds one truncated graph for the kept channels."""

    def __init__(self, whole: fx.GraphModule, output: fx.Node, kept: Channels) -> None:
        self.whole, self.output, self.kept = whole, output, kept
        self.maps: dict[fx.Node, list[tuple[fx.Node, int]] | None] = {}
        self.plan = _Plan()
        self.gathers = 0

    def build(self) -> tuple[fx.GraphModule, int]:
        self._ask(self.output, _Demand(self.kept, ordered=True))
        for node in reversed(self.whole.graph.nodes):
            if node not in self.plan.demands:
                continue
            if self._passes_on(node):
                for demand in self.plan.demands[node]:
                    self._ask(node.all_input_nodes[0], demand)
            else:
                self.plan.order[node] = self._choose_order(node)
                self._ask_inputs(node)
        self.graph = fx.Graph()
        self.built: dict[fx.Node, fx.Node] = {}
        for node in self.whole.graph.nodes:
            if node in self.plan.demands:
                self.built[node] = self._emit(node)
        result, _ = self._fetch(self.output, self.kept, ordered=True)
        self.graph.output(result)
        return fx.GraphModule(self.whole, self.graph), self.gathers

    # Asking: from the output back to the image.

    def _ask(self, node: fx.Node, demand: _Demand) -> None:
        for piece in self.pieces(node, demand.channels):
            self.plan.demands.setdefault(piece.source, []).append(
                _Demand(piece.source_channels, demand.ordered)
            )

    def _ask_inputs(self, node: fx.Node) -> None:
        kind, order = kind_of(node), self.plan.order[node]
        for source in node.all_input_nodes:
            if source.op == "get_attr" or not gives_tensor(source):
                continue
            if kind in _CHANNELWISE:
                self._ask(source, _Demand(order, ordered=True))
            elif kind is Kind.COMBINE and len(source.meta["shape"]) == 4:
                self._ask(source, _Demand(self._operand_channels(source, order), ordered=True))
            elif kind is Kind.CONVOLUTION:
                self._ask(source, self._convolution_demand(node, order))
            else:
                self._ask(source, _Demand(_all_channels(source), ordered=True))

    def _passes_on(self, node: fx.Node) -> bool:
        """Whether a node leaves the order of its channels to its input: no reader of it cares."""
        return (
            _is_channelwise(node)
            and self._is_free(node)
            and not any(demand.ordered for demand in self.plan.demands[node])
        )

    def _operand_channels(self, source: fx.Node, order: Channels) -> Channels:
        return (0,) if channels_of(source) == 1 else order

    def _convolution_demand(self, node: fx.Node, order: Channels) -> _Demand:
        convolution = _convolution(node)
        if convolution.groups == 1:
            return _Demand(tuple(range(convolution.in_channels)), ordered=False)
        inputs, outputs = (
            convolution.in_channels // convolution.groups,
            convolution.out_channels // convolution.groups,
        )
        groups = [order[at] // outputs for at in range(0, len(order), outputs)]
        return _Demand(
            tuple(group * inputs + offset for group in groups for offset in range(inputs)), ordered=True
        )

    def _choose_order(self, node: fx.Node) -> Channels:
        """An order of the wanted channels in which as many readers as possible find theirs side by side."""
        kind, demands = kind_of(node), self.plan.demands[node]
        wanted = {channel for demand in demands for channel in demand.channels}
        if not self._is_free(node):
            return _all_channels(node)
        placed: list[int] = []
        ordered = sorted(
            (demand for demand in demands if demand.ordered), key=lambda demand: -len(demand.channels)
        )
        unordered = sorted(
            (demand for demand in demands if not demand.ordered), key=lambda demand: len(demand.channels)
        )
        for demand in (*ordered, *unordered):
            fresh = [channel for channel in demand.channels if channel not in set(placed)]
            placed += list(dict.fromkeys(fresh))
        assert wanted == set(placed)
        if kind is Kind.CONVOLUTION and _convolution(node).groups > 1:
            outputs = _convolution(node).out_channels // _convolution(node).groups
            groups = dict.fromkeys(channel // outputs for channel in placed)
            return tuple(group * outputs + offset for group in groups for offset in range(outputs))
        return tuple(placed)

    def _is_free(self, node: fx.Node) -> bool:
        """Whether a node can give any of its channels in any order."""
        if len(node.meta["shape"]) != 4:
            return False
        if kind_of(node) is Kind.COMBINE:
            return any(
                gives_tensor(source) and node.meta["shape"][1] == channels_of(source)
                for source in node.all_input_nodes
                if len(source.meta["shape"]) == 4
            ) and all(len(source.meta["shape"]) in (0, 4) for source in node.all_input_nodes)
        return kind_of(node) in (*_CHANNELWISE, Kind.CONVOLUTION)

    # Where a tensor's channels come from, through operations that only move them.

    def pieces(self, node: fx.Node, channels: Channels) -> list[_Piece]:
        grouped: dict[fx.Node, tuple[list[int], list[int]]] = {}
        for channel in channels:
            source, source_channel = self._source(node, channel)
            own, theirs = grouped.setdefault(source, ([], []))
            own.append(channel)
            theirs.append(source_channel)
        return [_Piece(source, tuple(theirs), tuple(own)) for source, (own, theirs) in grouped.items()]

    def _source(self, node: fx.Node, channel: int) -> tuple[fx.Node, int]:
        while (moved := self._moved(node)) is not None:
            node, channel = moved[channel]
        return node, channel

    def _moved(self, node: fx.Node) -> list[tuple[fx.Node, int]] | None:
        """For each channel of a node that only moves channels: the tensor and channel it comes from."""
        if node not in self.maps:
            self.maps[node] = self._trace_moves(node) if kind_of(node) in _VIRTUAL else None
        return self.maps[node]

    def _trace_moves(self, node: fx.Node) -> list[tuple[fx.Node, int]] | None:
        if not gives_tensor(node) or len(node.meta["shape"]) != 4:
            return None
        if kind_of(node) is Kind.CONCATENATE:
            sources = list(node.args[0])  # type: ignore[arg-type]
            return [(source, channel) for source in sources for channel in _all_channels(source)]
        chain, at = [node], node.all_input_nodes[0]
        while not (gives_tensor(at) and len(at.meta["shape"]) == 4):
            if kind_of(at) is not Kind.LAYOUT or len(at.all_input_nodes) != 1:
                return None
            chain, at = [at, *chain], at.all_input_nodes[0]
        _, count, height, width = at.meta["shape"]
        # The channel's number in every pixel, moved as the network moves its values, shows where each goes.
        value: Any = torch.arange(count).view(1, count, 1, 1).expand(1, count, height, width)
        for step in chain:
            value = _run(step, value)
        assert isinstance(value, torch.Tensor)
        first = value[:, :, :1, :1]
        if tuple(value.shape[2:]) != (height, width) or not torch.equal(first.expand_as(value), value):
            return None
        return [(at, channel) for channel in first.flatten().tolist()]

    # Building: from the image to the output.

    def _fetch(self, node: fx.Node, channels: Channels, *, ordered: bool) -> tuple[fx.Node, Channels]:
        """A node of the new graph with ``channels`` of ``node``; and the order they are in."""
        parts: list[fx.Node] = []
        got: list[int] = []
        for piece in self.pieces(node, channels):
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

    def _fetch_piece(self, piece: _Piece, *, ordered: bool) -> tuple[fx.Node, Channels]:
        have, source = self.plan.order[piece.source], self.built[piece.source]
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
        name = f"kept_{self.gathers}"
        self.whole.register_buffer(name, torch.tensor(places))
        gathered = self.graph.call_function(torch.index_select, (source, 1, self.graph.get_attr(name)))
        return self._with_shape(gathered, source, len(places))

    def _emit(self, node: fx.Node) -> fx.Node:
        kind = kind_of(node)
        if self._passes_on(node):
            union = {channel for demand in self.plan.demands[node] for channel in demand.channels}
            source, self.plan.order[node] = self._fetch(
                node.all_input_nodes[0], tuple(sorted(union)), ordered=False
            )
            return self._emit_channelwise(node, source)
        order = self.plan.order[node]
        if kind is Kind.INPUT:
            made = self.graph.placeholder(node.name)
        elif _is_channelwise(node) and self._is_free(node):
            source, _ = self._fetch(node.all_input_nodes[0], order, ordered=True)
            return self._emit_channelwise(node, source)
        elif kind is Kind.CONVOLUTION:
            made = self._emit_convolution(node, order)
        else:
            free = self._is_free(node)
            operands: dict[fx.Node, fx.Node] = {}
            for source in node.all_input_nodes:
                wanted = self._operand_channels(source, order) if free else _all_channels(source)
                operands[source] = (
                    self._constant(source, wanted)
                    if source.op == "get_attr"
                    else self._fetch(source, wanted, ordered=True)[0]
                )
            made = self.graph.node_copy(node, lambda argument: operands[argument])
        return self._with_shape(made, node, len(order))

    def _constant(self, node: fx.Node, channels: Channels) -> fx.Node:
        if channels == _all_channels(node):
            return self.graph.get_attr(str(node.target))
        path, _, name = str(node.target).rpartition(".")
        value = getattr(self.whole.get_submodule(path), name)
        kept = f"{name}_kept_{len(self.graph.nodes)}"
        self.whole.register_buffer(kept, value[:, list(channels)])
        return self.graph.get_attr(kept)

    def _emit_channelwise(self, node: fx.Node, source: fx.Node) -> fx.Node:
        order = self.plan.order[node]
        made = self.graph.node_copy(node, lambda _: source)
        kind = kind_of(node)
        if order != _all_channels(node) and kind in (Kind.NORMALISATION, Kind.CONVOLUTION):
            sliced = (
                _slice_normalisation(module_of(node), order)
                if kind is Kind.NORMALISATION
                else _slice_convolution(_convolution(node), order, order)
            )
            made.target = new_module(self.whole, f"{node.target}_kept", sliced)
        return self._with_shape(made, node, len(order))

    def _with_shape(self, made: fx.Node, like: fx.Node, channels: int) -> fx.Node:
        shape = like.meta["shape"]
        made.meta = {**like.meta, "shape": (shape[0], channels, *shape[2:]) if len(shape) == 4 else shape}
        return made

    def _emit_convolution(self, node: fx.Node, order: Channels) -> fx.Node:
        convolution = _convolution(node)
        demand = self._convolution_demand(node, order)
        source, columns = self._fetch(node.all_input_nodes[0], demand.channels, ordered=demand.ordered)
        target = str(node.target)
        if (order, columns) != (
            tuple(range(convolution.out_channels)),
            tuple(range(convolution.in_channels)),
        ):
            target = new_module(self.whole, f"{target}_kept", _slice_convolution(convolution, order, columns))
        return self.graph.call_module(target, (source,))


def _is_channelwise(node: fx.Node) -> bool:
    """Whether output channel i depends on input channel i alone."""
    if kind_of(node) is Kind.CONVOLUTION:
        convolution = _convolution(node)
        return convolution.groups == convolution.in_channels == convolution.out_channels
    return kind_of(node) in _CHANNELWISE


def _all_channels(node: fx.Node) -> Channels:
    shape = node.meta["shape"]
    return tuple(range(shape[1])) if len(shape) > 1 else (0,)


def _convolution(node: fx.Node) -> nn.Conv2d:
    convolution = module_of(node)
    assert isinstance(convolution, nn.Conv2d)
    return convolution


def _slice_convolution(convolution: nn.Conv2d, rows: Channels, columns: Channels) -> nn.Conv2d:
    sliced = copy.copy(convolution)
    sliced._parameters = dict(convolution._parameters)
    weight = convolution.weight[list(rows)]
    if convolution.groups == 1:
        weight = weight[:, list(columns)]
    else:
        sliced.groups = len(columns) // (convolution.in_channels // convolution.groups)
    sliced.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if convolution.bias is not None:
        sliced.bias = nn.Parameter(convolution.bias[list(rows)], requires_grad=False)
    sliced.out_channels, sliced.in_channels = len(rows), len(columns)
    return sliced


def _slice_normalisation(module: nn.Module, kept: Channels) -> nn.BatchNorm2d:
    assert isinstance(module, nn.BatchNorm2d)
    sliced = copy.copy(module)
    sliced._parameters, sliced._buffers = dict(module._parameters), dict(module._buffers)
    sliced.num_features = len(kept)
    for name in ("weight", "bias"):
        if (parameter := module._parameters[name]) is not None:
            sliced._parameters[name] = nn.Parameter(parameter[list(kept)], requires_grad=False)
    for name in ("running_mean", "running_var"):
        if (buffer := module._buffers[name]) is not None:
            sliced._buffers[name] = buffer[list(kept)]
    return sliced


def _run(node: fx.Node, value: Any) -> Any:
    """Run one layout operation on ``value`` in place of its only input."""
    arguments = [value if isinstance(argument, fx.Node) else argument for argument in node.args]
    options = dict(node.kwargs)
    if node.op == "call_method":
        return getattr(value, str(node.target))(*arguments[1:], **options)
    if node.op == "call_module":
        return module_of(node)(*arguments)
    assert callable(node.target)
    return node.target(*arguments, **options)
