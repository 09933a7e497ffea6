"""Where a tensor's channels come from, through operations that only move them.

Splits, shuffles and concatenations of whole channels compute nothing: what reads their result may as well
read the tensors before them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .operators import Kind, kind_of, module_of
from .shapes import gives_tensor

Channels = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A run of a tensor's channels that comes from one source: ``channels`` in the reader's numbering."""

    source: fx.Node
    source_channels: Channels
    channels: Channels


class ChannelMoves:
    """Traces channels back to the tensors that compute them; remembers what it has traced."""

    def __init__(self) -> None:
        self._known: dict[fx.Node, list[tuple[fx.Node, int]] | None] = {}

    def pieces(self, node: fx.Node, channels: Sequence[int]) -> list[Piece]:
        """The tensors that ``channels`` of a node's tensor come from, in the order of first use."""
        if self._moved(node) is None:
            return [Piece(node, tuple(channels), tuple(channels))] if channels else []
        grouped: dict[fx.Node, tuple[list[int], list[int]]] = {}
        for channel in channels:
            source, source_channel = self._source(node, channel)
            own, theirs = grouped.setdefault(source, ([], []))
            own.append(channel)
            theirs.append(source_channel)
        return [Piece(source, tuple(theirs), tuple(own)) for source, (own, theirs) in grouped.items()]

    def _source(self, node: fx.Node, channel: int) -> tuple[fx.Node, int]:
        while (moved := self._moved(node)) is not None:
            node, channel = moved[channel]
        return node, channel

    def _moved(self, node: fx.Node) -> list[tuple[fx.Node, int]] | None:
        """For each channel of a node that only moves whole channels: the tensor and channel it comes from."""
        if node not in self._known:
            self._known[node] = _trace(node)
        return self._known[node]


def all_channels(node: fx.Node) -> Channels:
    """Every channel of a node's tensor; (0,) where it has no axis 1."""
    shape = node.meta["shape"]
    return tuple(range(shape[1])) if len(shape) > 1 else (0,)


def _trace(node: fx.Node) -> list[tuple[fx.Node, int]] | None:
    if not _is_image_like(node):
        return None
    if kind_of(node) is Kind.CONCATENATE:
        sources = node.args[0] if node.args else node.kwargs["tensors"]
        assert isinstance(sources, tuple | list)
        return [(source, channel) for source in sources for channel in all_channels(source)]
    if kind_of(node) is not Kind.LAYOUT:
        return None
    chain, at = [node], node.all_input_nodes[0]
    while not _is_image_like(at):
        if kind_of(at) is not Kind.LAYOUT:
            return None
        chain, at = [at, *chain], at.all_input_nodes[0]
    if any(len(step.all_input_nodes) > 1 for step in chain):
        return None
    _, count, height, width = at.meta["shape"]
    # Numbers that stand for the channels, and for the pixels, moved as the network moves its values, show
    # where each goes: the channels to anywhere, the pixels nowhere.
    channels = _move(chain, torch.arange(count).view(1, count, 1, 1).expand(1, count, height, width))
    pixels = _move(chain, torch.arange(height * width).view(1, 1, height, width).expand(1, count, -1, -1))
    if channels is None or pixels is None or tuple(channels.shape) != tuple(node.meta["shape"]):
        return None
    first = channels[:, :, :1, :1]
    in_place = torch.arange(height * width).view(1, 1, height, width)
    if tuple(pixels.shape[2:]) != (height, width) or not (pixels == in_place).all():
        return None
    if not (channels == first).all():
        return None
    return [(at, channel) for channel in first.flatten().tolist()]


def _is_image_like(node: fx.Node) -> bool:
    """Whether a node gives one tensor (1, C, h, w)."""
    return gives_tensor(node) and len(node.meta["shape"]) == 4 and node.meta["shape"][0] == 1


def _move(chain: Sequence[fx.Node], value: Any) -> Tensor | None:
    """Run layout operations on numbers; None where they do not move them as they move the real values."""
    try:
        for step in chain:
            value = _run(step, value)
    except (RuntimeError, IndexError, TypeError, ValueError):
        return None
    return value if isinstance(value, Tensor) else None


def _run(node: fx.Node, value: Any) -> Any:
    """Run one layout operation on ``value`` in place of its only input."""
    arguments = [value if isinstance(argument, fx.Node) else argument for argument in node.args]
    options = {
        name: value if isinstance(argument, fx.Node) else argument for name, argument in node.kwargs.items()
    }
    if node.op == "call_method":
        # The numbers are expanded, not contiguous; what a view gives, a reshape gives too.
        method = "reshape" if node.target == "view" else str(node.target)
        return getattr(value, method)(*arguments[1:], **options)
    if node.op == "call_module":
        return module_of(node)(*arguments, **options)
    assert callable(node.target)
    return node.target(*arguments, **options)
