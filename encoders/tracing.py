"""From a network to a graph in canonical form, with the shape of every tensor.

Canonical: no node that does nothing at inference, no module that hides several operations, no size computed
at run time, nothing in place, normalisation folded into the convolution before it. Cutting, slicing, costing
and export all start from it.
"""

from __future__ import annotations

import operator
from typing import Any

from torch import fx, nn
from torch.nn import functional as F

from ..errors import InputError
from .folding import fold_normalisation
from .in_place import make_pure, pure_module
from .operators import module_of, new_module
from .shapes import fix_sizes, record_shapes

_NOTHING_AT_INFERENCE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_MAY_RAISE = (
    TypeError,
    RuntimeError,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    AssertionError,
)
"""What a network raises that is run on something else than it was written for."""

_STOCHASTIC_DEPTH = ("StochasticDepth", "DropPath")


class _Proxy(fx.Proxy):
    """Traces ``x += 1`` as what it is; plain proxies trace ``x + 1``, as if nobody else read ``x``."""

    def _in_place(self, name: str, other: Any) -> fx.Proxy:
        changing = getattr(operator, f"i{name}")
        return self.tracer.create_proxy("call_function", changing, (self, other), {}, name=name)

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place("add", other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place("sub", other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place("mul", other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place("truediv", other)


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

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
    except (fx.proxy.TraceError, *_MAY_RAISE) as error:
        raise InputError(
            f"{name} cannot be traced: {_first_line(error)}",
            hint="its control flow must not depend on the image",
        ) from error
    traced = fx.GraphModule(tracer.root, graph)
    for node in traced.graph.nodes:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        node.meta["path"] = stack[-1][0] if stack else None
    _drop_what_does_nothing(traced)
    try:
        record_shapes(traced, input_size)
    except _MAY_RAISE as error:
        raise InputError(
            f"{name} does not take images of {input_size}x{input_size}: {_first_line(error)}",
            hint="give another --input-size",
        ) from error
    make_pure(traced)
    fix_sizes(traced, input_size)
    _split_normalisation_and_activation(traced)
    _make_padding_explicit(traced)
    fold_normalisation(traced)
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return traced


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
            act = new_module(traced, f"{path}_act", pure_module(activation))
            acted = traced.graph.call_module(act, (node,))
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
