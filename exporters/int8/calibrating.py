"""The grid of each tensor: the one nearest to what the encoder computes for sample images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...artifacts import fit_grid, session_options
from ...progress import SILENT, Progress
from .quantising import Grid

if TYPE_CHECKING:
    import onnx

_VALUES = 2**18
"""So many values of a tensor are looked at, evenly from all images."""


def fit_grids(
    model: onnx.ModelProto, tensors: Sequence[str], images: NDArray[np.uint8], *, progress: Progress = SILENT
) -> dict[str, Grid]:
    """A grid of 256 steps, one of them 0, for each of ``tensors`` of the float32 ``model``.

    ``images``: uint8 (n, H, H, 3). Clipping ranges have the least squared error on them.
    """
    chosen = np.random.default_rng(0)
    share = max(16, _VALUES // len(images))
    sampled: dict[str, list[NDArray[np.float32]]] = {name: [] for name in tensors}
    with progress.task("calibration", len(images) + len(tensors)) as task:
        for values in run_tensors(model, tensors, images):
            for name, value in values.items():
                flat = value.ravel()
                few = flat if flat.size <= share else flat[chosen.integers(flat.size, size=share)]
                # What is largest is rare, and decides most about where to clip.
                sampled[name].append(np.append(few, [flat.min(), flat.max()]))
            task.advance()
        grids = {}
        for name in tensors:
            grids[name] = fit_grid(np.concatenate(sampled[name]), 256, with_zero=True)
            task.advance()
    return grids


def run_tensors(
    model: onnx.ModelProto, tensors: Sequence[str], images: NDArray[np.uint8]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """For each image uint8 (H, H, 3) of ``images`` the values of inner ``tensors`` (float32), by name."""
    import onnx
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {one.name for one in shown.graph.output}
    shown.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in tensors
        if name not in known
    )
    session = onnxruntime.InferenceSession(
        shown.SerializeToString(), session_options(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    for image in images:
        yield dict(zip(tensors, session.run(list(tensors), {name: image[None]}), strict=True))
