"""What an encoder costs, counted on shapes alone.

``macs`` are multiply-accumulates of convolutions and linear layers for one image. ``weights_kb`` are the
graph's constants in float32, bytes / 1024, normalisation folded into the convolution before it.
``peak_ram_kb`` is the largest set of activations alive at once, input and output included.
``payload_bytes`` is the output tensor of one image.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx, nn
from torch.nn import functional as F

from .kernels import Activation, Convolution, Kernel, Operation, Work, fuse
from .liveness import elements, graph_peak_bytes, is_view, tensor_bytes
from .operators import Kind, called_by, constants_of, gated_by_sigmoid, kind_of, module_of
from .shapes import gives_tensor
from .tracing import trace

_RELUS = (nn.ReLU, F.relu, torch.relu, "relu")
_BOUNDS = (
    *(nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.Hardsigmoid),
    *(F.relu6, F.hardtanh, F.leaky_relu, F.hardsigmoid, torch.clamp, "clamp"),
)
_KERNELS_OF_THEIR_OWN = (
    *(nn.SiLU, nn.GELU, nn.Mish, nn.SELU, nn.CELU, nn.Softplus, nn.Softsign, nn.LogSigmoid),
    *(F.silu, F.gelu, F.mish, F.selu, F.celu, F.softplus),
)
"""Activations that no runtime computes in the kernel before them."""
_MEANS = (torch.mean, "mean")
_COPIES = (torch.cat, torch.concat, torch.index_select, nn.PixelShuffle, F.pixel_shuffle)
"""Move values, whichever axis it is along."""


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
    used = {id(tensor): tensor for node in graph.nodes for tensor in _constants(node)}
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


def _constants(node: fx.Node) -> list[torch.Tensor]:
    owner = node.graph.owning_module
    assert owner is not None
    if node.op == "call_module":
        module = module_of(node)
        buffers = [tensor for name, tensor in module.named_buffers() if name != "num_batches_tracked"]
        return [*module.parameters(), *buffers]
    if node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        value = getattr(owner.get_submodule(path), name)
        assert isinstance(value, torch.Tensor)
        return [value]
    return []


def operations_of(graph: fx.Graph) -> list[Operation]:
    """A canonical graph as operations; a tensor has its node's name.

    A tensor times its own sigmoid is one operation.
    """
    constants, gated = constants_of(graph), gated_by_sigmoid(graph)
    found = []
    for node in graph.nodes:
        inputs = node.all_input_nodes
        sources = [
            source
            for source in inputs
            if source not in constants and source not in gated and gives_tensor(source)
        ]
        if not sources or node.op == "output" or node in gated:
            continue
        operation = _operation(node, sources, constants)
        times_its_sigmoid = not gated.isdisjoint(inputs)
        found.append(replace(operation, activation=Activation.CURVE) if times_its_sigmoid else operation)
    return found


def _operation(node: fx.Node, sources: Sequence[fx.Node], constants: Collection[fx.Node]) -> Operation:
    kind = kind_of(node)
    outputs = [node] if gives_tensor(node) else list(_parts(node))
    inputs = tuple(source.name for source in sources)
    names = tuple(one.name for one in outputs)
    given = (source for source in node.all_input_nodes if source in constants)
    weights = sum(tensor.numel() for one in (node, *given) for tensor in _constants(one))
    if kind is Kind.CONVOLUTION:
        convolution = _convolution(node)
        return Operation(Work.CONVOLUTION, inputs, names, weights, convolution=convolution)
    macs = elements(node) * node.all_input_nodes[0].meta["shape"][-1] if kind is Kind.LINEAR else 0
    work = _work(node, kind, sources)
    # The places that a gather takes are no parameters.
    kept = weights if work in (Work.LINEAR, Work.ELEMENTWISE) else 0
    return Operation(work, inputs, names, kept, macs, activation=_activation(node, kind))


def _convolution(node: fx.Node) -> Convolution:
    module = module_of(node)
    assert isinstance(module, nn.Conv2d)
    height, width = node.meta["shape"][2:]
    return Convolution(
        input_channels=module.in_channels,
        output_channels=module.out_channels,
        groups=module.groups,
        window=(module.kernel_size[0], module.kernel_size[1]),
        stride=(module.stride[0], module.stride[1]),
        output_height=height,
        output_width=width,
    )


def _work(node: fx.Node, kind: Kind, sources: Sequence[fx.Node]) -> Work:
    if kind is Kind.LINEAR:
        return Work.LINEAR
    if kind is Kind.PAD or is_view(node):
        return Work.VIEW
    if kind is Kind.CONCATENATE:
        return Work.CONCATENATION
    if kind is Kind.LAYOUT or called_by(node) in _COPIES:
        return Work.MOVE
    if called_by(node) in _MEANS:
        return Work.MEAN
    if kind is Kind.POOL:
        return Work.MEAN if node.meta["shape"][2:] == (1, 1) else Work.POOL
    if kind is Kind.ACTIVATION:
        alone = called_by(node) in _KERNELS_OF_THEIR_OWN
        return Work.ELEMENTWISE if alone else Work.FUSABLE_ACTIVATION
    adds = node.target in (operator.add, torch.add, "add")
    alike = len(sources) > 1 and len({source.meta["shape"] for source in sources}) == 1
    return Work.ADDITION if kind is Kind.COMBINE and adds and alike else Work.ELEMENTWISE


def _parts(node: fx.Node) -> Iterator[fx.Node]:
    """The tensors that are taken of what a node gives."""
    for user in node.users:
        if user.target is operator.getitem:
            yield from [user] if gives_tensor(user) else _parts(user)


def _activation(node: fx.Node, kind: Kind) -> Activation | None:
    if kind is not Kind.ACTIVATION:
        return None
    if called_by(node) in _RELUS:
        return None
    return Activation.BOUND if called_by(node) in _BOUNDS else Activation.CURVE
