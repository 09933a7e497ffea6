"""A traced graph as operations, the kind that an exported file is told as too."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import torch
from torch import fx, nn
from torch.nn import functional as F

from .kernels import Activation, Convolution, Operation, Work
from .liveness import elements, is_view
from .operators import Kind, called_by, constants_of, gated_by_sigmoid, kind_of, module_of
from .shapes import gives_tensor

_CONVOLUTIONS = (nn.Conv2d, nn.Conv1d)
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
_PRODUCTS = (operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm")
_MEANS = (torch.mean, "mean")
_COPIES = (
    *(torch.cat, torch.concat, torch.stack, torch.index_select, torch.swapaxes, "expand", "expand_as"),
    *(nn.PixelShuffle, F.pixel_shuffle, nn.PixelUnshuffle, F.pixel_unshuffle),
)
"""Move values, whichever axis it is along."""


def operations_of(graph: fx.Graph) -> list[Operation]:
    """A canonical graph as operations; a tensor has its node's name.

    A tensor times its own sigmoid is one operation.
    """
    constants, gated = constants_of(graph), gated_by_sigmoid(graph)
    found = []
    for node in graph.nodes:
        # Of the other tensor only the shape is read.
        inputs = node.all_input_nodes[:1] if called_by(node) == "expand_as" else node.all_input_nodes
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
    weights = sum(tensor.numel() for one in (node, *given) for tensor in constants_in(one))
    work = _work(node, kind, sources)
    if work is Work.CONVOLUTION:
        return Operation(work, inputs, names, weights, convolution=_convolution(node))
    macs = elements(node) * node.all_input_nodes[0].meta["shape"][-1] if work is Work.LINEAR else 0
    # The places that a gather takes are no parameters.
    kept = weights if work in (Work.LINEAR, Work.ELEMENTWISE) else 0
    return Operation(work, inputs, names, kept, macs, activation=_activation(node, kind))


def _convolution(node: fx.Node) -> Convolution:
    module = module_of(node)
    assert isinstance(module, _CONVOLUTIONS)
    # A convolution over one axis is one over a height of 1.
    *outer, output_width = node.meta["shape"][2:]
    return Convolution(
        input_channels=module.in_channels,
        output_channels=module.out_channels,
        groups=module.groups,
        window=(math.prod(module.kernel_size[:-1]), module.kernel_size[-1]),
        stride=(math.prod(module.stride[:-1]), module.stride[-1]),
        output_height=math.prod(outer),
        output_width=output_width,
    )


def _work(node: fx.Node, kind: Kind, sources: Sequence[fx.Node]) -> Work:
    called = called_by(node)
    if isinstance(called, type) and issubclass(called, _CONVOLUTIONS):
        return Work.CONVOLUTION
    if kind is Kind.LINEAR or called in _PRODUCTS:
        return Work.LINEAR
    if kind is Kind.PAD or is_view(node):
        return Work.VIEW
    if kind is Kind.CONCATENATE:
        return Work.CONCATENATION
    if kind is Kind.LAYOUT or called in _COPIES:
        return Work.MOVE
    if called in _MEANS:
        return Work.MEAN
    if kind is Kind.POOL:
        return Work.MEAN if node.meta["shape"][2:] == (1, 1) else Work.POOL
    if kind is Kind.ACTIVATION:
        alone = called in _KERNELS_OF_THEIR_OWN
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


def constants_in(node: fx.Node) -> list[torch.Tensor]:
    """The weights and buffers that a node holds."""
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
