"""From a network to a graph in canonical form, with the shape of every tensor.

Canonical: no node that does nothing at inference, no module that hides several operations, no size computed
at run time, nothing in place, normalisation folded into the convolution before it. Cutting, slicing, costing
and export all start from it.
"""

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..errors import InputError
from .folding import fold_normalisation
from .operators import Kind, kind_of, module_of, new_module

Shape = tuple[int, ...]

_NOTHING_AT_INFERENCE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_STOCHASTIC_DEPTH = ("StochasticDepth", "DropPath")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # Subclasses of convolutions and normalisations (timm's) have control flow that does not trace, and
        # their weights are sliced as those of their base class.
        return (
            isinstance(m, nn.Conv2d | nn.BatchNorm2d)
            or type(m).__name__ in _STOCHASTIC_DEPTH
            or super().is_leaf_module(m, module_qualified_name)
        )


def trace(module: nn.Module, input_size: int, *, name: str = "the network") -> fx.GraphModule:
    """The canonical graph of an image network for square float32 inputs (N, 3, input_size, input_size).

    Every node that gives a tensor carries its shape (batch 1) as ``node.meta["shape"]`` and, where there is
    one, its dotted module path as ``node.meta["path"]``. Works on shapes alone: nothing is computed, so the
    module may be on the meta device. The parameters are shared with ``module``, not copied.

    Raises:
        InputError: the network's control flow depends on its data, or it does not take such an input.
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(module)
    except (fx.proxy.TraceError, TypeError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{name} cannot be traced: {first}", hint="its control flow must not depend on the image"
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    for node in traced.graph.nodes:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        node.meta["path"] = stack[-1][0] if stack else None
    _drop_what_does_nothing(traced)
    try:
        _propagate_shapes(traced, input_size)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{name} does not take images of {input_size}x{input_size}: {first}",
            hint="give another --input-size",
        ) from error
    _fix_sizes(traced)
    _split_normalisation_and_activation(traced)
    _make_padding_explicit(traced)
    _forbid_in_place(traced)
    fold_normalisation(traced)
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def _propagate_shapes(traced: fx.GraphModule, input_size: int) -> None:
    """Write every tensor's shape to ``node.meta["shape"]`` (a tuple of shapes where a node gives several)."""
    recorder = _ShapeRecorder(traced)
    state = {
        f"traced.{name}": torch.empty_like(tensor, device="meta")
        for name, tensor in (*traced.named_parameters(), *traced.named_buffers())
    }
    images = torch.empty((1, 3, input_size, input_size), device="meta")
    with torch.no_grad():
        torch.func.functional_call(recorder, state, (images,))


class _ShapeRecorder(nn.Module):
    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, images: Tensor) -> Any:
        return _RecordingInterpreter(self.traced).run(images)


class _RecordingInterpreter(fx.Interpreter):
    def run_node(self, n: fx.Node) -> Any:
        # Meta kernels of activations are slow (some run as a dozen decomposed ones) and change no shape.
        unchanged = kind_of(n) is Kind.ACTIVATION
        result = self.fetch_args_kwargs_from_env(n)[0][0] if unchanged else super().run_node(n)
        if isinstance(result, Tensor):
            n.meta["shape"] = tuple(result.shape)
        elif isinstance(result, tuple | list) and result and all(isinstance(item, Tensor) for item in result):
            n.meta["shape"] = tuple(tuple(item.shape) for item in result)
        else:
            n.meta.pop("shape", None)
            n.meta["value"] = result
        return result


def gives_tensor(node: fx.Node) -> bool:
    """Whether a node gives one tensor (not a size, a number or several tensors)."""
    shape = node.meta.get("shape")
    return isinstance(shape, tuple) and (not shape or isinstance(shape[0], int))


def channels_of(node: fx.Node) -> int:
    """The length of axis 1 of a node's tensor."""
    return int(node.meta["shape"][1])


def _drop_what_does_nothing(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        nothing = (
            node.op == "call_module"
            and (
                isinstance(module_of(node), _NOTHING_AT_INFERENCE)
                or type(module_of(node)).__name__ in _STOCHASTIC_DEPTH
            )
        ) or (node.op == "call_function" and node.target in (F.dropout, F.dropout2d))
        if nothing:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()


def _fix_sizes(traced: fx.GraphModule) -> None:
    """Replace sizes computed from tensors by numbers; the batch by -1, as ``view`` understands it."""
    for node in list(traced.graph.nodes):
        if "value" not in node.meta or node.op in ("placeholder", "output", "get_attr"):
            continue
        value = node.meta["value"]
        if isinstance(value, int) and not isinstance(value, bool):
            node.replace_all_uses_with(-1 if _is_batch(node) else value)
        elif isinstance(value, torch.Size):
            for user in list(node.users):
                if not _is_item(user):
                    user.args = tuple(
                        torch.Size((-1, *value[1:])) if argument is node else argument
                        for argument in user.args
                    )
    traced.graph.eliminate_dead_code()


def _is_item(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target is operator.getitem


def _is_batch(node: fx.Node) -> bool:
    size_call = node.op == "call_method" and node.target == "size" and node.args[1:] == (0,)
    return size_call or (_is_item(node) and node.args[1:] == (0,))


def _split_normalisation_and_activation(traced: fx.GraphModule) -> None:
    """timm's BatchNormAct2d is two operations in one module."""
    for node in list(traced.graph.nodes):
        if node.op != "call_module":
            continue
        module = module_of(node)
        activation = getattr(module, "act", None)
        if type(module) is nn.BatchNorm2d or not isinstance(module, nn.BatchNorm2d) or activation is None:
            continue
        plain = nn.BatchNorm2d(
            module.num_features, eps=module.eps, affine=module.affine, device="meta"
        ).eval()
        plain.weight, plain.bias = module.weight, module.bias
        plain.running_mean, plain.running_var = module.running_mean, module.running_var
        path = node.meta["path"]
        node.target = new_module(traced, f"{node.target}_norm", plain)
        if isinstance(activation, nn.Identity):
            continue
        with traced.graph.inserting_after(node):
            acted = traced.graph.call_module(new_module(traced, f"{path}_act", activation), (node,))
        node.replace_all_uses_with(acted, delete_user_cb=lambda user, acted=acted: user is not acted)
        acted.meta.update(path=path, shape=node.meta["shape"])


def _make_padding_explicit(traced: fx.GraphModule) -> None:
    """Padding that a convolution works out from its input's size (TensorFlow's "same") becomes a node.

    Along an axis, max((ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) pixels are
    added, the odd one at the end (TensorFlow's documentation of ``tf.nn.convolution``).
    """
    for node in list(traced.graph.nodes):
        if node.op != "call_module":
            continue
        module = module_of(node)
        if type(module) is nn.Conv2d or not isinstance(module, nn.Conv2d):
            continue
        if "Same" not in type(module).__name__:
            raise InputError(f"convolutions of type {type(module).__name__} are not supported")
        size = node.args[0].meta["shape"][2:]
        margins = []
        for axis in (1, 0):
            kernel, stride, dilation = module.kernel_size[axis], module.stride[axis], module.dilation[axis]
            total = max((-(-size[axis] // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size[axis], 0)
            margins += [total // 2, total - total // 2]
        plain = nn.Conv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,  # type: ignore[arg-type]
            module.stride,  # type: ignore[arg-type]
            0,
            module.dilation,  # type: ignore[arg-type]
            module.groups,
            module.bias is not None,
            device="meta",
        ).eval()
        plain.weight, plain.bias = module.weight, module.bias
        path = node.meta["path"]
        if margins[0] == margins[1] and margins[2] == margins[3]:
            plain.padding = (margins[2], margins[0])
        else:
            with traced.graph.inserting_before(node):
                pad = nn.ZeroPad2d(tuple(margins))
                padded = traced.graph.call_module(new_module(traced, f"{path}_pad", pad), (node.args[0],))
            added = (margins[2] + margins[3], margins[0] + margins[1])
            shape = node.args[0].meta["shape"]
            padded.meta.update(
                path=None, shape=(*shape[:2], *(a + b for a, b in zip(shape[2:], added, strict=True)))
            )
            node.args = (padded,)
        node.target = new_module(traced, f"{path}_conv", plain)


def _forbid_in_place(traced: fx.GraphModule) -> None:
    # Slices share memory with their tensor: an activation in place would change what others read.
    for node in traced.graph.nodes:
        if node.op == "call_module" and getattr(module_of(node), "inplace", False):
            module = copy.copy(module_of(node))
            setattr(module, "inplace", False)  # noqa: B010 - declared by the activations, not by Module
            node.target = new_module(traced, f"{node.target}_pure", module)
        if node.kwargs.get("inplace"):
            node.kwargs = {**node.kwargs, "inplace": False}
        if node.op == "call_method" and node.target in ("relu_", "add_", "mul_"):
            node.target = str(node.target).rstrip("_")
        if node.op == "call_function" and node.target in (operator.iadd, operator.imul):
            node.target = operator.add if node.target is operator.iadd else operator.mul
