"""ExecuTorch: PyTorch's own runtime for devices, with XNNPACK for what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PrivynetError
from .source import Send, Source

_MODEL = "encoder.pte"


def write_executorch(source: Source, folder: Path) -> Send:
    """Write ``encoder.pte``; inputs and output in the order and of the shapes of ``encoder.onnx``.

    Raises ``PrivynetError`` where the network cannot be converted.
    """
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    arrays: list[NDArray[Any]] = [source.images, *([] if source.noise is None else [source.noise])]
    example = tuple(torch.from_numpy(array[:1]) for array in arrays)
    try:
        program = torch.export.export(source.encoder.eval(), example, strict=False)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        (folder / _MODEL).write_bytes(lowered.to_executorch().buffer)
    except Exception as error:  # The converter has no type of its own for what it cannot do.
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise PrivynetError(f"the network cannot be converted for ExecuTorch: {first[0]}") from error
    method = Runtime.get().load_program(folder / _MODEL).load_method("forward")

    def send(images: NDArray[np.uint8], noise: NDArray[np.float32] | None) -> NDArray[Any]:
        fed: list[NDArray[Any]] = [images, *([] if noise is None else [noise])]
        rows = []
        for row in range(len(images)):
            # Its tensors must not share memory with what it may move around.
            inputs = [torch.from_numpy(array[row : row + 1].copy()) for array in fed]
            rows.append(method.execute(inputs)[0].numpy().copy())
        return np.concatenate(rows)

    return send
