"""Where a backbone can be cut: tensors through which all data flows, one per fused kernel."""

from __future__ import annotations

import itertools
from collections.abc import Container

from torch import fx

from ..errors import unknown
from .operators import Kind, kind_of
from .shapes import gives_tensor

_NO_CUT = (Kind.INPUT, Kind.OUTPUT, Kind.PAD)
_TAKES_ACTIVATION = (Kind.CONVOLUTION, Kind.NORMALISATION, Kind.COMBINE)


def cut_nodes(traced: fx.GraphModule) -> dict[str, fx.Node]:
    """The cuts of a canonical graph (``tracing.trace``), by name, from the input to the output."""
    nodes = [
        node for node in _bottlenecks(traced) if len(node.meta["shape"]) == 4 and kind_of(node) not in _NO_CUT
    ]
    kept = [
        node
        for node, following in itertools.pairwise([*nodes, None])
        if node is not None and (following is None or not _is_one_kernel(node, following))
    ]
    paths = [node.meta.get("path") for node in kept]
    unique = {path for path in paths if path and paths.count(path) == 1}
    named: dict[str, fx.Node] = {}
    for node, path in zip(kept, paths, strict=True):
        # A function's name may be another module's path.
        named[
            path if path is not None and path in unique else _free_name(node.name, unique | named.keys())
        ] = node
    return named


def _free_name(name: str, taken: Container[str]) -> str:
    free, number = name, 1
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def find_cut(traced: fx.GraphModule, name: str) -> fx.Node:
    """The node of the cut called ``name``. Raises ``InputError`` when there is none."""
    nodes = cut_nodes(traced)
    if name not in nodes:
        raise unknown("cut", name, nodes)
    return nodes[name]


def _bottlenecks(traced: fx.GraphModule) -> list[fx.Node]:
    """The nodes behind which no other tensor is still to be read."""
    order = {node: position for position, node in enumerate(traced.graph.nodes)}
    last_use = {
        node: max((order[user] for user in node.users), default=order[node])
        for node in order
        if "shape" in node.meta
    }
    found, reach = [], 0
    for node, position in order.items():
        if node not in last_use:
            continue
        # Everything before this node has been read for the last time at this node, or before.
        if reach <= position and gives_tensor(node):
            found.append(node)
        reach = max(reach, last_use[node])
    return found


def _is_one_kernel(node: fx.Node, following: fx.Node) -> bool:
    kind, next_kind = kind_of(node), kind_of(following)
    if next_kind is Kind.LAYOUT:
        return _only_moved(node, following)
    if node not in following.all_input_nodes:
        return False
    if next_kind is Kind.NORMALISATION:
        return kind is Kind.CONVOLUTION
    return next_kind is Kind.ACTIVATION and kind in _TAKES_ACTIVATION


def _only_moved(node: fx.Node, following: fx.Node) -> bool:
    """Whether ``following`` holds the values of ``node`` and no others."""
    at = following
    while at is not node:
        if kind_of(at) is not Kind.LAYOUT or len(at.all_input_nodes) != 1:
            return False
        at = at.all_input_nodes[0]
    return True
