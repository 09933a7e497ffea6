"""How much memory the activations of a traced network take at once."""

from __future__ import annotations

import math
import operator

import torch
from torch import fx, nn
from torch.nn import functional as F

from .buffers import HeldTensor, Role, Step, peak_bytes
from .operators import Kind, called_by, constants_of, gated_by_sigmoid, kind_of, module_of
from .shapes import gives_tensor

_WITH_ITS_INPUT = (nn.SiLU, nn.GELU, nn.LogSigmoid, F.silu, F.gelu)
"""Activations that read their input until their output is whole."""
_WITH_A_FACTOR = (nn.Hardswish, nn.Mish, F.hardswish, F.mish)
"""Those that have a factor of the same size beside it."""


def elements(node: fx.Node) -> int:
    return math.prod(node.meta["shape"]) if gives_tensor(node) else 0


def tensor_bytes(node: fx.Node) -> int:
    return elements(node) * _element_bytes(node)


def _element_bytes(node: fx.Node) -> int:
    return torch.empty((), dtype=node.meta.get("dtype", torch.float32)).element_size()


def is_view(node: fx.Node) -> bool:
    """Whether a layout operation only re-reads its input's memory."""
    if node.op == "call_module":
        return isinstance(module_of(node), nn.Flatten)
    return node.target in (
        *("view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous"),
        *(torch.flatten, torch.reshape, torch.unsqueeze, torch.squeeze),
    )


def graph_peak_bytes(graph: fx.Graph) -> int:
    """The most bytes that the activations of a canonical graph take at once, in the order of its nodes."""
    # A constant is a weight, and x * sigmoid(x) one kernel.
    left_out = constants_of(graph) | gated_by_sigmoid(graph)
    nodes = [
        node for node in graph.nodes if gives_tensor(node) and node.op != "output" and node not in left_out
    ]
    output = next(node for node in graph.nodes if node.op == "output")
    return peak_bytes(
        [_held(node) for node in nodes if node.op == "placeholder"],
        [_step(node) for node in nodes if node.op != "placeholder"],
        {node.name for node in output.all_input_nodes},
    )


def _held(node: fx.Node) -> HeldTensor:
    return HeldTensor(node.name, tuple(node.meta["shape"]), _element_bytes(node))


def _step(node: fx.Node) -> Step:
    reads = tuple(name for source in node.all_input_nodes for name in _tensors_of(source))
    scratch = tensor_bytes(node) if called_by(node) in _WITH_A_FACTOR else 0
    return Step(reads, (_held(node),), _role(node), scratch_bytes=scratch)


def _role(node: fx.Node) -> Role:
    kind = kind_of(node)
    if kind is Kind.CONVOLUTION:
        return Role.CONVOLUTION
    if kind is Kind.LINEAR:
        return Role.PRODUCT
    # Padding is done inside the convolution that reads it.
    if kind is Kind.PAD or (kind is Kind.LAYOUT and is_view(node)):
        return Role.VIEW
    if kind is Kind.ACTIVATION and called_by(node) not in (*_WITH_ITS_INPUT, *_WITH_A_FACTOR):
        return Role.IN_PLACE
    if node.target in (operator.add, torch.add, "add") and len(node.all_input_nodes) == 2:
        return Role.ADDITION
    return Role.OTHER


def _tensors_of(source: fx.Node) -> tuple[str, ...]:
    """A tensor's name; those of the inputs of what only names parts of them."""
    if gives_tensor(source):
        return (source.name,)
    return tuple(name for before in source.all_input_nodes for name in _tensors_of(before))
