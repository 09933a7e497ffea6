"""What an exported graph costs, counted on the ONNX file itself: what ships, not what was meant to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import PrivynetError

if TYPE_CHECKING:
    import onnx

    from ...encoders import Costs
    from ...encoders.buffers import HeldTensor


def graph_costs(path: Path) -> Costs:
    """Count the costs of an ONNX file with static shapes.

    ``macs``: of convolutions and matrix products. ``weights_kb``: the initialisers. ``peak_ram_kb``: the
    largest set of tensors alive at once in the file's order of nodes, weights left out. ``payload_bytes``:
    the first output. Raises ``PrivynetError`` where a shape is not static or cannot be inferred.
    """
    import onnx

    return model_costs(onnx.load(path), name=path.name)


def model_costs(model: onnx.ModelProto, *, name: str = "the model") -> Costs:
    """:func:`graph_costs` of a model in memory; ``name`` is what errors call it."""
    import onnx

    from ...encoders import Costs, fuse
    from .liveness import graph_peak_bytes
    from .operations import operations_of

    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = model.graph
    tensors = _tensors(graph)
    for node in graph.node:
        for made in node.output:
            if made and made not in tensors:
                raise PrivynetError(
                    f"the shape of {made} in {name} is not known", hint="export it with static shapes"
                )
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    kernels = fuse(operations_of(graph, shapes), shapes, [output.name for output in graph.output])
    return Costs(
        macs=sum(kernel.macs for kernel in kernels),
        weights_kb=sum(tensors[weight.name].bytes for weight in graph.initializer) / 1024,
        peak_ram_kb=graph_peak_bytes(graph, tensors) / 1024,
        payload_bytes=tensors[graph.output[0].name].bytes,
        kernels=kernels,
    )


def _tensors(graph: onnx.GraphProto) -> dict[str, HeldTensor]:
    """All tensors whose shape is known, weights among them."""
    found = {weight.name: _tensor(weight.name, weight.dims, weight.data_type) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        sizes = [size.dim_value for size in kind.shape.dim]
        if kind.HasField("shape") and all(size.HasField("dim_value") for size in kind.shape.dim):
            found[value.name] = _tensor(value.name, sizes, kind.elem_type)
    return found


def _tensor(name: str, shape: Sequence[int], data_type: int) -> HeldTensor:
    import onnx

    from ...encoders.buffers import HeldTensor

    return HeldTensor(name, tuple(shape), onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
