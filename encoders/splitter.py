"""Splitting a backbone: its cuts at one input size, and the encoder for each choice of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, fx

from ..errors import InputError
from .backbones import Backbone
from .channel_moves import Channels
from .costs import Costs, graph_costs
from .cuts import cut_nodes, find_cut
from .preprocessing import with_preprocessing
from .projection import add_projection
from .slicing import slice_encoder, truncate, ungathered_order
from .tracing import trace

INPUT_SIZES = (8, 1024)


@dataclass(frozen=True)
class Cut:
    """One place to cut.

    ``name`` is the dotted path of the module that gives the tensor (the traced node's name where that is not
    unique), ``index`` counts from 0 at the input, ``shape`` is (channels, height, width), ``costs`` are those
    of the encoder with all channels.
    """

    name: str
    index: int
    shape: tuple[int, int, int]
    costs: Costs

    @property
    def channels(self) -> int:
        """How many channels there are to choose from."""
        return self.shape[0]


class Splitter:
    """A backbone traced at one input size in pixels; works on shapes alone where its weights are not loaded.

    Raises:
        InputError: the backbone cannot be traced, or does not take images of that size.
    """

    def __init__(self, backbone: Backbone, input_size: int) -> None:
        low, high = INPUT_SIZES
        if not low <= input_size <= high:
            raise InputError(
                f"input size {input_size} is out of range", hint=f"allowed: {low} to {high} pixels"
            )
        self.backbone, self.input_size = backbone, input_size
        self._traced = trace(backbone.module, input_size, name=backbone.name.architecture)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Every cut, from the input to the output.

        Raises:
            InputError: the backbone has none.
        """
        found = []
        for index, (name, node) in enumerate(cut_nodes(self._traced).items()):
            _, channels, height, width = node.meta["shape"]
            costs = self.costs(name, range(channels))
            found.append(Cut(name, index, (channels, height, width), costs))
        if not found:
            raise InputError(
                f"{self.backbone.name.architecture} has no cut",
                hint="no four-dimensional tensor carries all of its data",
            )
        return tuple(found)

    def cut(self, name: str) -> Cut:
        """The cut called ``name``. Raises ``InputError`` when there is none."""
        find_cut(self._traced, name)
        return next(cut for cut in self.cuts if cut.name == name)

    def costs(self, cut: str, channels: Sequence[int], *, outputs: int | None = None) -> Costs:
        """What the encoder with these channels costs, preprocessing included.

        ``outputs``: with a projection to so many; no matrix is needed for that.
        """
        return graph_costs(self.graph(cut, channels, projection=outputs)[0])

    def order(self, cut: str, channels: Sequence[int]) -> Channels:
        """The same channels in the order that the encoder gives without a gather."""
        return ungathered_order(self._traced, find_cut(self._traced, cut), channels)

    def graph(
        self, cut: str, channels: Sequence[int], *, projection: Tensor | int | None = None
    ) -> tuple[fx.GraphModule, int]:
        """The encoder's graph (uint8 images in, float32 features out) and the number of its gathers.

        ``projection``: float32 (D', channels), or only D' for a graph of shapes.

        Raises:
            InputError: no such cut, channels that it does not have, or a projection of others.
        """
        sliced = slice_encoder(self._traced, find_cut(self._traced, cut), channels)
        graph_module = self._preprocessed(sliced.graph_module)
        if projection is not None:
            add_projection(graph_module, projection)
        return graph_module, sliced.gathers

    def features_of(self, cuts: Sequence[str]) -> fx.GraphModule:
        """One pass for several cuts: uint8 images (n, H, H, 3) -> {cut: float32 (n, C, h, w)}, all channels.

        The keys are in the order of ``cuts``; what lies behind the last cut is not computed.

        Raises:
            InputError: no such cut, or none at all.
        """
        if not cuts:
            raise InputError("there is no cut to compute features of", hint="name at least one")
        nodes = {name: find_cut(self._traced, name) for name in cuts}
        return self._preprocessed(truncate(self._traced, nodes))

    def _preprocessed(self, graph_module: fx.GraphModule) -> fx.GraphModule:
        return with_preprocessing(
            graph_module, mean=self.backbone.mean, std=self.backbone.std, input_size=self.input_size
        )
