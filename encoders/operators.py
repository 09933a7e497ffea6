"""What a node of a traced graph does, as far as channels are concerned."""

from __future__ import annotations

import operator
from enum import Enum, auto

import torch
from torch import fx, nn
from torch.nn import functional as F


class Kind(Enum):
    """The kinds of node that cutting, slicing and costing tell apart."""

    INPUT = auto()
    CONVOLUTION = auto()
    NORMALISATION = auto()
    ACTIVATION = auto()
    """Elementwise, one tensor in."""
    POOL = auto()
    """Works on each channel by itself, over space: pooling, mean, resizing."""
    PAD = auto()
    """Zero padding in space: part of the convolution behind it."""
    COMBINE = auto()
    """Elementwise, several tensors in: a residual addition, a gate."""
    CONCATENATE = auto()
    """Along channels."""
    LAYOUT = auto()
    """Moves values without computing: view, permute, chunk."""
    LINEAR = auto()
    OTHER = auto()
    OUTPUT = auto()


_ACTIVATION_MODULES = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Softplus,
    nn.LogSigmoid,
    nn.Softsign,
)
_POOL_MODULES = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LPPool2d,
    nn.Upsample,
)
_FUNCTIONS: dict[object, Kind] = {
    **dict.fromkeys(
        (
            F.relu,
            F.relu6,
            F.leaky_relu,
            F.elu,
            F.selu,
            F.celu,
            F.gelu,
            F.silu,
            F.mish,
            F.sigmoid,
            F.tanh,
            F.hardtanh,
            F.hardswish,
            F.hardsigmoid,
            F.softplus,
            torch.relu,
            torch.sigmoid,
            torch.tanh,
            torch.clamp,
        ),
        Kind.ACTIVATION,
    ),
    **dict.fromkeys(
        (
            F.max_pool2d,
            F.avg_pool2d,
            F.adaptive_avg_pool2d,
            F.adaptive_max_pool2d,
            F.interpolate,
            torch.max_pool2d,
        ),
        Kind.POOL,
    ),
    **dict.fromkeys(
        (
            operator.add,
            operator.mul,
            operator.sub,
            torch.add,
            torch.mul,
            torch.sub,
        ),
        Kind.COMBINE,
    ),
    **dict.fromkeys(
        (
            torch.flatten,
            torch.transpose,
            torch.permute,
            torch.reshape,
            torch.chunk,
            torch.split,
            torch.unsqueeze,
        ),
        Kind.LAYOUT,
    ),
    operator.getitem: Kind.LAYOUT,
    F.linear: Kind.LINEAR,
}
_METHODS: dict[str, Kind] = {
    **dict.fromkeys(("relu", "sigmoid", "tanh", "clamp"), Kind.ACTIVATION),
    **dict.fromkeys(("add", "mul", "sub"), Kind.COMBINE),
    **dict.fromkeys(
        (
            "view",
            "reshape",
            "permute",
            "transpose",
            "contiguous",
            "flatten",
            "chunk",
            "split",
            "unsqueeze",
            "squeeze",
        ),
        Kind.LAYOUT,
    ),
}
_SIGMOID = (nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid")
_MULTIPLY = (operator.mul, torch.mul, "mul")


def kind_of(node: fx.Node) -> Kind:
    """The kind of a node of a graph made by ``tracing.trace``."""
    if node.op == "placeholder":
        return Kind.INPUT
    if node.op == "output":
        return Kind.OUTPUT
    if node.op == "call_module":
        return _kind_of_module(module_of(node))
    if node.op == "call_method":
        if node.target == "mean":
            return _kind_of_mean(node)
        return _METHODS.get(str(node.target), Kind.OTHER)
    if node.op == "call_function":
        if node.target is torch.mean:
            return _kind_of_mean(node)
        if node.target in (torch.cat, torch.concat):
            axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            return Kind.CONCATENATE if axis in (1, -3) else Kind.OTHER
        if node.target is F.pad:
            return Kind.PAD if is_spatial_zero_pad(node) else Kind.OTHER
        return _FUNCTIONS.get(node.target, Kind.OTHER)
    return Kind.OTHER


def constants_of(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose values come from weights alone: a runtime computes them once."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        # Of a size nobody learns what is in the tensor that has it.
        inputs = [source for source in node.all_input_nodes if "value" not in source.meta]
        computed = node.op.startswith("call_") and "value" not in node.meta and found.issuperset(inputs)
        if node.op == "get_attr" or computed:
            found.add(node)
    return found


def module_of(node: fx.Node) -> nn.Module:
    """The module that a ``call_module`` node calls."""
    owner = node.graph.owning_module
    assert owner is not None
    return owner.get_submodule(str(node.target))


def called_by(node: fx.Node) -> object:
    """What a node calls: a module's class, a function, or the name of a method."""
    return type(module_of(node)) if node.op == "call_module" else node.target


def gated_by_sigmoid(graph: fx.Graph) -> set[fx.Node]:
    """Sigmoids whose one reader multiplies them with what they were computed from: SiLU written out."""
    found = set()
    for node in graph.nodes:
        users = list(node.users)
        multiplied = len(users) == 1 and called_by(users[0]) in _MULTIPLY
        if multiplied and called_by(node) in _SIGMOID and node.all_input_nodes[0] in users[0].all_input_nodes:
            found.add(node)
    return found


def is_spatial_zero_pad(node: fx.Node) -> bool:
    """Whether a call of ``F.pad`` adds zeros around the last two axes only."""
    widths = node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
    mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
    value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value", 0)
    spatial = isinstance(widths, tuple | list) and len(widths) <= 4
    return spatial and bool(mode == "constant") and (value is None or bool(value == 0))


def _kind_of_module(module: nn.Module) -> Kind:
    if isinstance(module, nn.Conv2d):
        return Kind.CONVOLUTION
    if isinstance(module, nn.BatchNorm2d):
        return Kind.NORMALISATION
    if isinstance(module, _ACTIVATION_MODULES):
        return Kind.ACTIVATION
    if isinstance(module, _POOL_MODULES):
        return Kind.POOL
    if isinstance(module, nn.ZeroPad2d):
        return Kind.PAD
    if isinstance(module, nn.Linear):
        return Kind.LINEAR
    if isinstance(module, nn.Flatten):
        return Kind.LAYOUT
    return Kind.OTHER


def _kind_of_mean(node: fx.Node) -> Kind:
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    keep = node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False)
    wanted = axes if isinstance(axes, tuple | list) else ()
    spatial = {axis % 4 for axis in wanted if isinstance(axis, int)} == {2, 3}
    return Kind.POOL if spatial and keep is True else Kind.OTHER


def new_module(traced: fx.GraphModule, target: str, module: nn.Module) -> str:
    """Add a module under ``target``, or the first free name like it; returns the name."""
    free = _free_name(traced, target)
    traced.add_submodule(free, module)
    return free


def new_buffer(traced: fx.GraphModule, name: str, value: torch.Tensor) -> str:
    """Add a constant under ``name``, or the first free name like it; returns the name."""
    free = _free_name(traced, name)
    traced.register_buffer(free, value)
    return free


def _free_name(traced: fx.GraphModule, target: str) -> str:
    free, number = target, 1
    while _is_taken(traced, free):
        free, number = f"{target}_{number}", number + 1
    return free


def _is_taken(traced: fx.GraphModule, target: str) -> bool:
    owner: object = traced
    for name in target.split("."):
        if not hasattr(owner, name):
            return False
        owner = getattr(owner, name)
    return True
