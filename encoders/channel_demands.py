"""What each tensor of a graph must hold for some channels of its output.

The kept channels are asked for at the output; every operation asks its inputs for what it needs for that,
back to the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx, nn

from .channel_moves import ChannelMoves, Channels, all_channels
from .operators import Kind, kind_of, module_of
from .shapes import channels_of, gives_tensor

_CHANNELWISE = (Kind.ACTIVATION, Kind.NORMALISATION, Kind.POOL, Kind.PAD)


@dataclass(frozen=True)
class Demand:
    """What a reader wants of a tensor: these channels, in this order or (a dense convolution) in any."""

    channels: Channels
    ordered: bool


class ChannelPlan:
    """For each node that must be built: who wants what of it, and the channels it will hold, in order.

    What gives no tensor (a size, several tensors) is wanted as it is: nobody asks for its channels.
    """

    def __init__(self, graph: fx.Graph, output: fx.Node, kept: Sequence[int]) -> None:
        self.moves = ChannelMoves()
        self.demands: dict[fx.Node, list[Demand]] = {}
        self.order: dict[fx.Node, Channels] = {}
        """Of nodes that pass on their input's order it is known when that is built."""
        self._ask(output, Demand(tuple(kept), ordered=True))
        for node in reversed(graph.nodes):
            if node not in self.demands:
                continue
            if self.passes_on(node):
                for demand in self.demands[node]:
                    self._ask(node.all_input_nodes[0], demand)
            else:
                self.order[node] = self._choose_order(node)
                self._ask_inputs(node)

    def passes_on(self, node: fx.Node) -> bool:
        """Whether a node leaves the order of its channels to its input: no reader of it cares."""
        return (
            is_channelwise(node)
            and is_free(node)
            and not any(demand.ordered for demand in self.demands[node])
        )

    def operand_channels(self, node: fx.Node, source: fx.Node) -> Channels:
        """The channels that a node which is no convolution reads of one of its inputs."""
        broadcast = len(source.meta["shape"]) != 4 or channels_of(source) == 1
        return all_channels(source) if broadcast or not is_free(node) else self.order[node]

    def convolution_demand(self, node: fx.Node) -> Demand:
        """What a convolution reads of its input."""
        order = self.order[node]
        convolution = convolution_of(node)
        if convolution.groups == 1:
            return Demand(tuple(range(convolution.in_channels)), ordered=False)
        inputs, outputs = (
            convolution.in_channels // convolution.groups,
            convolution.out_channels // convolution.groups,
        )
        groups = [order[at] // outputs for at in range(0, len(order), outputs)]
        return Demand(
            tuple(group * inputs + offset for group in groups for offset in range(inputs)), ordered=True
        )

    def _ask(self, node: fx.Node, demand: Demand) -> None:
        for piece in self.moves.pieces(node, demand.channels):
            self.demands.setdefault(piece.source, []).append(Demand(piece.source_channels, demand.ordered))

    def _ask_inputs(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            if source.op == "get_attr":
                continue
            if not gives_tensor(source):
                self.demands.setdefault(source, [])
            elif kind_of(node) is Kind.CONVOLUTION:
                self._ask(source, self.convolution_demand(node))
            else:
                self._ask(source, Demand(self.operand_channels(node, source), ordered=True))

    def _choose_order(self, node: fx.Node) -> Channels:
        """An order of the wanted channels in which as many readers as possible find theirs side by side."""
        kind, demands = kind_of(node), self.demands[node]
        wanted = {channel for demand in demands for channel in demand.channels}
        if not gives_tensor(node):
            return ()
        if not is_free(node):
            return all_channels(node)
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
        if kind is Kind.CONVOLUTION and convolution_of(node).groups > 1:
            outputs = convolution_of(node).out_channels // convolution_of(node).groups
            groups = dict.fromkeys(channel // outputs for channel in placed)
            return tuple(group * outputs + offset for group in groups for offset in range(outputs))
        return tuple(placed)


def is_channelwise(node: fx.Node) -> bool:
    """Whether output channel i depends on channel i of the only input, and on nothing else."""
    if kind_of(node) is Kind.CONVOLUTION:
        convolution = convolution_of(node)
        return convolution.groups == convolution.in_channels == convolution.out_channels
    return kind_of(node) in _CHANNELWISE and len(node.all_input_nodes) == 1


def is_free(node: fx.Node) -> bool:
    """Whether a node can give any of its channels in any order."""
    if not gives_tensor(node) or len(node.meta["shape"]) != 4:
        return False
    if kind_of(node) is Kind.COMBINE:
        operands = node.all_input_nodes
        return all(
            gives_tensor(source) and len(source.meta["shape"]) in (0, 4) for source in operands
        ) and any(
            len(source.meta["shape"]) == 4 and channels_of(source) == channels_of(node) for source in operands
        )
    return kind_of(node) is Kind.CONVOLUTION or is_channelwise(node)


def convolution_of(node: fx.Node) -> nn.Conv2d:
    """The convolution that a node of that kind calls."""
    convolution = module_of(node)
    assert isinstance(convolution, nn.Conv2d)
    return convolution
