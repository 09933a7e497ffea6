"""LiteRT, formerly TensorFlow Lite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PrivynetError
from .source import Send, Source

_MODEL = "encoder.tflite"


def write_litert(source: Source, folder: Path) -> Send:
    """Write ``encoder.tflite``; inputs and output in the order and of the shapes of ``encoder.onnx``.

    Raises ``PrivynetError`` where the network cannot be converted.
    """
    import litert_torch
    import torch
    from ai_edge_litert.interpreter import Interpreter

    arrays: list[NDArray[Any]] = [source.images, *([] if source.noise is None else [source.noise])]
    example = tuple(torch.from_numpy(array[:1]) for array in arrays)
    try:
        litert_torch.convert(source.encoder.eval(), example).export(str(folder / _MODEL))
    except Exception as error:  # The converter has no type of its own for what it cannot do.
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise PrivynetError(f"the network cannot be converted for LiteRT: {first[0]}") from error
    interpreter = Interpreter(str(folder / _MODEL), num_threads=1)
    interpreter.allocate_tensors()
    places = [described["index"] for described in interpreter.get_input_details()]
    (target,) = (described["index"] for described in interpreter.get_output_details())

    def send(images: NDArray[np.uint8], noise: NDArray[np.float32] | None) -> NDArray[Any]:
        fed: list[NDArray[Any]] = [images, *([] if noise is None else [noise])]
        rows = []
        for row in range(len(images)):
            for place, array in zip(places, fed, strict=True):
                interpreter.set_tensor(place, array[row : row + 1])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(target))
        return np.concatenate(rows)

    return send
