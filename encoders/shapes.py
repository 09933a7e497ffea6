"""The shape of every tensor of a traced graph, and sizes computed at run time turned into numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import InputError
from .operators import Kind, kind_of

Shape = tuple[int, ...]


def gives_tensor(node: fx.Node) -> bool:
    """Whether a node gives one tensor (not a size, a number or several tensors)."""
    shape = node.meta.get("shape")
    return isinstance(shape, tuple) and (not shape or isinstance(shape[0], int))


def channels_of(node: fx.Node) -> int:
    """The length of axis 1 of a node's tensor."""
    return int(node.meta["shape"][1])


def record_shapes(traced: fx.GraphModule, input_size: int) -> None:
    """Write every tensor's shape, batch 1, to ``node.meta["shape"]``.

    Where a node gives several tensors it is a tuple of shapes; what else a node gives goes to
    ``node.meta["value"]``. Nothing is computed. Raises what the network raises for such an image.
    """
    for node, result in _run_on_shapes(traced, (1, 3, input_size, input_size)).items():
        node.meta.pop("value", None)
        node.meta.pop("shape", None)
        if isinstance(result, Tensor):
            node.meta["shape"] = tuple(result.shape)
        elif isinstance(result, tuple | list) and result and all(isinstance(one, Tensor) for one in result):
            node.meta["shape"] = tuple(tuple(one.shape) for one in result)
        else:
            node.meta["value"] = result


def fix_sizes(traced: fx.GraphModule, input_size: int) -> None:
    """Replace what is computed from shapes by numbers, and the batch in shapes to view by -1.

    What depends on the batch is what differs between one image and two.

    Raises:
        InputError: the network takes one image at a time only, or views its batch along two axes.
    """
    nodes = traced.graph.nodes
    for node in list(nodes):
        if node.op == "call_function" and node.target is torch._assert:
            traced.graph.erase_node(node)
    computed = [node for node in nodes if "value" in node.meta and node.op.startswith("call_")]
    if not computed:
        return
    try:
        for_two = _run_on_shapes(traced, (2, 3, input_size, input_size))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise InputError(
            "the backbone takes one image at a time only", hint="its shapes must follow the batch"
        ) from error
    for node in computed:
        value = node.meta["value"]
        if _is_constant(value) and value == for_two[node]:
            _replace(node, tuple(value) if isinstance(value, torch.Size) else value)
    for node in nodes:
        if _is_view_of_shape(node) and len(node.all_input_nodes) > 1:
            _view_as_recorded(node, tuple(for_two[node].shape))
    traced.graph.eliminate_dead_code()


def _run_on_shapes(traced: fx.GraphModule, images: Shape) -> dict[fx.Node, Any]:
    """What each node gives for images of that shape, as tensors without data."""
    interpreter = _Recorder(traced)
    state = {
        f"traced.{name}": torch.empty_like(tensor, device="meta")
        for name, tensor in (*traced.named_parameters(), *traced.named_buffers())
    }
    with torch.no_grad():
        torch.func.functional_call(_Runner(traced, interpreter), state, (torch.empty(images, device="meta"),))
    return interpreter.found


class _Runner(nn.Module):
    def __init__(self, traced: fx.GraphModule, interpreter: _Recorder) -> None:
        super().__init__()
        self.traced = traced
        self._interpreter = [interpreter]  # in a list, so that it is no submodule

    def forward(self, images: Tensor) -> Any:
        return self._interpreter[0].run(images)


class _Recorder(fx.Interpreter):
    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        # Meta kernels of activations are slow (some run as a dozen decomposed ones) and change no shape.
        unchanged = kind_of(n) is Kind.ACTIVATION and len(n.all_input_nodes) == 1
        result = self.env[n.all_input_nodes[0]] if unchanged else super().run_node(n)
        self.found[n] = result
        return result


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_constant(item) for item in value)
    return isinstance(value, int | float | str | torch.dtype)


def _replace(node: fx.Node, value: Any) -> None:
    for user in list(node.users):
        user.args = fx.node.map_arg(user.args, lambda argument: value if argument is node else argument)
        user.kwargs = fx.node.map_arg(user.kwargs, lambda argument: value if argument is node else argument)


def _is_view_of_shape(node: fx.Node) -> bool:
    return (node.op == "call_method" and node.target in ("view", "reshape")) or (
        node.op == "call_function" and node.target is torch.reshape
    )


def _view_as_recorded(node: fx.Node, for_two: Shape) -> None:
    """Give a view whose shape is computed from the batch the shape that was recorded."""
    shape = tuple(-1 if one != two else one for one, two in zip(node.meta["shape"], for_two, strict=True))
    if shape.count(-1) > 1:
        raise InputError(f"the backbone views its batch along two axes at {node.name}")
    source = node.args[0] if node.args else node.kwargs["input"]
    node.args = (source, *shape) if node.op == "call_method" else (source, shape)
    node.kwargs = {}
