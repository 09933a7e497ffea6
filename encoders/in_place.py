"""Operations in place become pure ones: who reads the changed tensor later reads the operation's result.

Dead code is dropped and slices share memory with their tensor, so nothing may be changed behind a reader's
back.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..errors import InputError
from .operators import module_of, new_module
from .shapes import gives_tensor

_PURE_OPERATORS: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}
"""What ``+=`` and its like do to a tensor, and what they would do without changing it."""

_MAY_SHARE_MEMORY = (
    *("view", "view_as", "reshape", "flatten", "unflatten", "contiguous", "squeeze", "unsqueeze"),
    *("permute", "transpose", "swapaxes", "movedim", "t", "expand", "expand_as"),
    *("chunk", "split", "tensor_split", "unbind", "select", "narrow", "getitem", "getattr"),
    *("detach", "to", "float", "type"),
)


def make_pure(traced: fx.GraphModule) -> None:
    """Make every operation of a graph with shapes pure.

    Raises:
        InputError: an operation that has no pure form, or one that changes a tensor of which another view is
            read later.
    """
    position = {node: place for place, node in enumerate(traced.graph.nodes)}
    for node in list(traced.graph.nodes):
        changed = node.args[0] if node.args else node.kwargs.get("input")
        if isinstance(node.kwargs.get("out"), fx.Node):
            raise _refused(node, "writes into another tensor")
        if not isinstance(changed, fx.Node) or not gives_tensor(changed) or not _purify(traced, node):
            continue
        if changed.op == "get_attr":
            raise _refused(node, "changes a parameter or buffer")
        later = [user for user in changed.users if position[user] > position[node]]
        for user in later:
            user.replace_input_with(changed, node)
        for other in _others_in_memory(traced, changed):
            if any(position[user] > position[node] and _reads(user) for user in other.users):
                raise _refused(node, f"changes memory that {other.name} shares and that is read later")


def pure_module(module: nn.Module) -> nn.Module:
    """The same module, or a copy of an activation that does not work in place."""
    if not getattr(module, "inplace", False):
        return module
    module = copy.copy(module)
    setattr(module, "inplace", False)  # noqa: B010 - declared by the activations, not by Module
    return module


def _purify(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Make a node pure; whether it was not."""
    if node.op == "call_module":
        module = module_of(node)
        pure = pure_module(module)
        if pure is not module:
            node.target = new_module(traced, f"{node.target}_pure", pure)
        return pure is not module
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    if node.op == "call_function" and node.target in _PURE_OPERATORS:
        node.target = _PURE_OPERATORS[node.target]
        return True
    name = _name(node)
    if not name.endswith("_") or name.endswith("__"):
        return False
    homes = (Tensor,) if node.op == "call_method" else (torch, F)
    found = next((getattr(home, name[:-1]) for home in homes if hasattr(home, name[:-1])), None)
    if not callable(found):
        raise _refused(node, "works in place and has no pure form")
    node.target = name[:-1] if node.op == "call_method" else found
    return True


def _name(node: fx.Node) -> str:
    if node.op == "call_module":
        return type(module_of(node)).__name__.lower()
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _may_share_memory(node: fx.Node) -> bool:
    return "shape" in node.meta and bool(node.all_input_nodes) and _name(node) in _MAY_SHARE_MEMORY


def _reads(node: fx.Node) -> bool:
    """Whether a node reads the values of its inputs; another view is judged by its own readers."""
    return node.op == "output" or ("shape" in node.meta and not _may_share_memory(node))


def _ancestors(node: fx.Node) -> list[fx.Node]:
    """The node, after the tensors whose memory it may share; the first is the memory's owner."""
    chain = [node]
    while _may_share_memory(chain[0]):
        chain.insert(0, chain[0].all_input_nodes[0])
    return chain


def _others_in_memory(traced: fx.GraphModule, changed: fx.Node) -> list[fx.Node]:
    """The other tensors that may lie in the memory of ``changed``."""
    own = _ancestors(changed)
    chains = [_ancestors(node) for node in traced.graph.nodes if node is not changed]
    return [chain[-1] for chain in chains if chain[0] is own[0] and not _are_apart(chain, own)]


def _are_apart(one: list[fx.Node], other: list[fx.Node]) -> bool:
    """Whether two tensors of one memory are different parts of one chunk or split."""
    for parent, (first, second) in zip(one, zip(one[1:], other[1:], strict=False), strict=False):
        if first is not second:
            parts = [part.args[1] if _name(part) == "getitem" else None for part in (first, second)]
            several = "shape" in parent.meta and not gives_tensor(parent)
            return bool(several and all(isinstance(part, int) for part in parts) and parts[0] != parts[1])
    return False


def _refused(node: fx.Node, what: str) -> InputError:
    return InputError(f"the backbone's {node.name} {what}", hint="write it without in-place operations")
