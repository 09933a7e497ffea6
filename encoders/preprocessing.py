"""What a camera gives becomes what the backbone was trained on, inside the graph."""

from __future__ import annotations

import torch
from torch import fx

from .backbones import Triple
from .operators import new_buffer


def with_preprocessing(
    encoder: fx.GraphModule, *, mean: Triple, std: Triple, input_size: int
) -> fx.GraphModule:
    """Let a canonical graph take uint8 RGB images (N, input_size, input_size, 3)."""
    graph = fx.Graph()
    images = graph.placeholder("images")
    planes = graph.call_method("permute", (images, 0, 3, 1, 2))
    # Channels-last strides, which permute leaves, make the ONNX exporter emulate strides with gathers.
    values = graph.call_method(
        "to", (planes,), {"dtype": torch.float32, "memory_format": torch.contiguous_format}
    )
    std_values = torch.tensor(std, dtype=torch.float64)
    scale = (1 / (255 * std_values)).float().view(1, 3, 1, 1)
    shift = (-torch.tensor(mean, dtype=torch.float64) / std_values).float().view(1, 3, 1, 1)
    scaled = graph.call_function(torch.mul, (values, graph.get_attr(new_buffer(encoder, "scale", scale))))
    result = graph.call_function(torch.add, (scaled, graph.get_attr(new_buffer(encoder, "shift", shift))))
    images.meta.update(shape=(1, input_size, input_size, 3), dtype=torch.uint8)
    planes.meta.update(shape=(1, 3, input_size, input_size), dtype=torch.uint8)
    for node in (values, scaled, result):
        node.meta.update(shape=(1, 3, input_size, input_size))

    copies: dict[fx.Node, fx.Node] = {}
    for node in encoder.graph.nodes:
        copies[node] = (
            result if node.op == "placeholder" else graph.node_copy(node, lambda argument: copies[argument])
        )
    return fx.GraphModule(encoder, graph)
