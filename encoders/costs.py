"""What an encoder costs, counted on shapes alone.

``macs`` are multiply-accumulates of convolutions and linear layers for one image. ``weights_kb`` are the
graph's constants in float32, bytes / 1024, normalisation folded into the convolution before it.
``peak_ram_kb`` is the largest set of activations alive at once, input and output included.
``payload_bytes`` is the output tensor of one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx, nn

from .liveness import elements, graph_peak_bytes, is_view, tensor_bytes
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
        peak_ram_kb=graph_peak_bytes(graph_module.graph) / 1024,
        payload_bytes=tensor_bytes(output),
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


def _kernel(node: fx.Node) -> Kernel | None:
    kind = kind_of(node)
    if not gives_tensor(node) or kind in (Kind.INPUT, Kind.OUTPUT, Kind.PAD) or node.op == "get_attr":
        return None
    source = node.all_input_nodes[0] if node.all_input_nodes else None
    if kind is Kind.ACTIVATION and source is not None and _is_fused(source):
        return None
    inputs = sum(elements(argument) for argument in node.all_input_nodes)
    outputs = elements(node)
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
        return Kernel("move", 0, 0, inputs, outputs) if not is_view(node) else None
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
