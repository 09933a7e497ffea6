"""How much memory the activations of a network take at once, by liveness over its graph."""

from __future__ import annotations

import math
from collections.abc import Container

import torch
from torch import fx

from .operators import Kind, kind_of
from .shapes import gives_tensor


def elements(node: fx.Node) -> int:
    return math.prod(node.meta["shape"]) if gives_tensor(node) else 0


def tensor_bytes(node: fx.Node) -> int:
    return elements(node) * torch.empty((), dtype=node.meta.get("dtype", torch.float32)).element_size()


def is_view(node: fx.Node) -> bool:
    """Whether a layout operation only re-reads its input's memory."""
    return kind_of(node) is Kind.LAYOUT and node.target in (
        "view",
        "reshape",
        "flatten",
        torch.flatten,
        torch.reshape,
    )


def _shares_memory(node: fx.Node, held: Container[fx.Node], dying: set[fx.Node]) -> fx.Node | None:
    """The input, of those ``held``, whose memory also holds the output: a view's, or elementwise work's that
    dies here."""
    kind = kind_of(node)
    if kind is Kind.PAD or is_view(node):
        source = node.all_input_nodes[0]
        return source if source in held else None
    if kind in (Kind.ACTIVATION, Kind.COMBINE, Kind.NORMALISATION):
        for source in node.all_input_nodes:
            if source in dying and tensor_bytes(source) == tensor_bytes(node):
                return source
    return None


def peak_bytes(graph: fx.Graph) -> int:
    """Liveness over the graph in its order; padding is done inside the convolution that reads it."""
    order = {node: position for position, node in enumerate(graph.nodes)}
    last_use = {node: max((order[user] for user in node.users), default=order[node]) for node in order}
    holder: dict[fx.Node, fx.Node] = {}
    until: dict[fx.Node, int] = {}
    peak = 0
    for node, position in order.items():
        if not gives_tensor(node) or node.op in ("get_attr", "output"):
            continue
        dying = {
            source for source in node.all_input_nodes if source in holder and last_use[source] == position
        }
        shared = _shares_memory(node, holder, dying)
        holder[node] = node if shared is None else holder[shared]
        until[holder[node]] = max(until.get(holder[node], 0), last_use[node])
        peak = max(peak, sum(tensor_bytes(tensor) for tensor in until))
        until = {tensor: last for tensor, last in until.items() if last > position}
    return peak
