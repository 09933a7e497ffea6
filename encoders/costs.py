"""What an encoder costs, counted on shapes alone.

``macs`` are multiply-accumulates of convolutions and linear layers for one image. ``weights_kb`` are the
graph's constants in float32, bytes / 1024, normalisation folded into the convolution before it.
``peak_ram_kb`` is the largest set of activations alive at once, input and output included.
``payload_bytes`` is the output tensor of one image.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx, nn

from .operators import Kind, kind_of, module_of
from .shapes import gives_tensor
from .tracing import trace

KernelKind = Literal["conv3x3s1", "conv", "pointwise", "depthwise", "linear", "pool", "elementwise", "move"]


@dataclass(frozen=True)
class Kernel:
    """One fused kernel: a convolution with its padding and activation, a pooling, an addition."""

    kind: KernelKind
    macs: int
    weights: int
    """Number of parameters."""
    input_elements: int
    output_elements: int


@dataclass(frozen=True)
class Costs:
    """The costs of one image (batch 1); the units are in the names."""

    macs: int
    weights_kb: float
    peak_ram_kb: float
    payload_bytes: int
    kernels: tuple[Kernel, ...]


def module_costs(module: nn.Module, input_size: int) -> Costs:
    """The costs of a whole image network with float32 input; it may be on the meta device."""
    return graph_costs(trace(module.eval(), input_size))


def graph_costs(graph_module: fx.GraphModule) -> Costs:
    """The costs of a canonical graph (``tracing.trace``, ``slicing.slice_encoder``)."""
    kernels = tuple(kernel for node in graph_module.graph.nodes if (kernel := _kernel(node)) is not None)
    used = {id(tensor): tensor for node in graph_module.graph.nodes for tensor in _constants(node)}
    weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in used.values())
    output = next(node for node in graph_module.graph.nodes if node.op == "output").all_input_nodes[0]
    return Costs(
        macs=sum(kernel.macs for kernel in kernels),
        weights_kb=weight_bytes / 1024,
        peak_ram_kb=_peak_bytes(graph_module.graph) / 1024,
        payload_bytes=_bytes(output),
        kernels=kernels,
    )


def _constants(node: fx.Node) -> list[torch.Tensor]:
    owner = node.graph.owning_module
    assert owner is not None
    if node.op == "call_module":
        module = module_of(node)
        return [*module.parameters(), *module.buffers()]
    if node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        value = getattr(owner.get_submodule(path), name)
        assert isinstance(value, torch.Tensor)
        return [value]
    return []


def _elements(node: fx.Node) -> int:
    return math.prod(node.meta["shape"]) if gives_tensor(node) else 0


def _bytes(node: fx.Node) -> int:
    return _elements(node) * torch.empty((), dtype=node.meta.get("dtype", torch.float32)).element_size()


def _kernel(node: fx.Node) -> Kernel | None:
    kind = kind_of(node)
    if not gives_tensor(node) or kind in (Kind.INPUT, Kind.OUTPUT, Kind.PAD) or node.op == "get_attr":
        return None
    source = node.all_input_nodes[0] if node.all_input_nodes else None
    if kind is Kind.ACTIVATION and source is not None and _is_fused(source):
        return None
    inputs = sum(_elements(argument) for argument in node.all_input_nodes)
    outputs = _elements(node)
    weights = sum(tensor.numel() for tensor in _constants(node))
    if kind is Kind.CONVOLUTION:
        convolution = module_of(node)
        assert isinstance(convolution, nn.Conv2d)
        window = math.prod(convolution.kernel_size)
        macs = outputs * (convolution.in_channels // convolution.groups) * window
        return Kernel(_convolution_kind(convolution), macs, weights, inputs, outputs)
    if kind is Kind.LINEAR:
        features = node.all_input_nodes[0].meta["shape"][-1]
        return Kernel("linear", outputs * features, weights, inputs, outputs)
    if kind is Kind.POOL:
        return Kernel("pool", 0, weights, inputs, outputs)
    if kind in (Kind.LAYOUT, Kind.CONCATENATE):
        return Kernel("move", 0, 0, inputs, outputs) if not _is_view(node) else None
    return Kernel("elementwise", 0, weights, inputs, outputs)


def _convolution_kind(convolution: nn.Conv2d) -> KernelKind:
    if convolution.groups > 1 and convolution.groups == convolution.in_channels:
        return "depthwise"
    if convolution.groups == 1 and tuple(convolution.kernel_size) == (1, 1):
        return "pointwise"
    if (
        convolution.groups == 1
        and tuple(convolution.kernel_size) == (3, 3)
        and tuple(convolution.stride) == (1, 1)
    ):
        return "conv3x3s1"
    return "conv"


def _is_fused(source: fx.Node) -> bool:
    """Whether an activation that reads ``source`` is part of its kernel."""
    return kind_of(source) in (Kind.CONVOLUTION, Kind.COMBINE, Kind.LINEAR) and len(source.users) == 1


def _is_view(node: fx.Node) -> bool:
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
    if kind is Kind.PAD or _is_view(node):
        source = node.all_input_nodes[0]
        return source if source in held else None
    if kind in (Kind.ACTIVATION, Kind.COMBINE, Kind.NORMALISATION):
        for source in node.all_input_nodes:
            if source in dying and _bytes(source) == _bytes(node):
                return source
    return None


def _peak_bytes(graph: fx.Graph) -> int:
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
        peak = max(peak, sum(_bytes(tensor) for tensor in until))
        until = {tensor: last for tensor, last in until.items() if last > position}
    return peak
