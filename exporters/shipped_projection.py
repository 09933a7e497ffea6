"""The matrix of a projection, found again in the graph that ships it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..encoders import EncoderSpec


def shipped_projection(model: Path, spec: EncoderSpec) -> NDArray[np.float32] | None:
    """The matrix (D', C) in an ONNX file that has the digest which the spec names.

    ``None`` where the spec has no projection, or no weight of the file is this matrix. The file must be one
    that ONNX Runtime has loaded.
    """
    import onnx

    from ..encoders.projection import projection_digest

    if spec.projection is None or spec.adapted is not None:
        return None
    shape = (spec.projection.outputs, len(spec.channels), 1, 1)
    for weight in onnx.load(model).graph.initializer:
        if tuple(weight.dims) == shape and weight.data_type == onnx.TensorProto.FLOAT:
            matrix = np.ascontiguousarray(onnx.numpy_helper.to_array(weight)[:, :, 0, 0])
            if projection_digest(matrix) == spec.projection.digest:
                return matrix
    return None
