"""What an encoder costs, counted on shapes alone.

``macs`` are multiply-accumulates of convolutions and linear layers for one image. ``weights_kb`` are the
graph's constants in float32, bytes / 1024, normalisation folded into the convolution before it.
``peak_ram_kb`` is the largest set of activations alive at once, input and output included.
``payload_bytes`` is the output tensor of one image.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from .kernels import Kernel, fuse
from .liveness import graph_peak_bytes, tensor_bytes
from .operations import constants_in, operations_of
from .shapes import gives_tensor
from .tracing import trace


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
    graph = graph_module.graph
    output = next(node for node in graph.nodes if node.op == "output").all_input_nodes[0]
    shapes = {name: shape for node in graph.nodes for name, shape in _shapes(node)}
    kernels = fuse(operations_of(graph), shapes, [output.name])
    used = {id(tensor): tensor for node in graph.nodes for tensor in constants_in(node)}
    weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in used.values())
    return Costs(
        macs=sum(kernel.macs for kernel in kernels),
        weights_kb=weight_bytes / 1024,
        peak_ram_kb=graph_peak_bytes(graph) / 1024,
        payload_bytes=tensor_bytes(output),
        kernels=kernels,
    )


def _shapes(node: fx.Node) -> list[tuple[str, tuple[int, ...]]]:
    return [(node.name, node.meta["shape"])] if gives_tensor(node) else []
