"""How much of an encoder is to be in integers: all of it, or all but its first or last convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, NegativeResult
from ...progress import SILENT, Progress
from .calibrating import fit_grids
from .exporting import calibrated, float_graph
from .quality import sqnr_db
from .quantising import grid_tensors, quantised
from .writing import int8_session

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from ...artifacts import OrtEncoder
    from ...encoders import Encoder, Int8

Judge = Callable[["Encoder | OrtEncoder"], float]
"""The task score of what an encoder sends, the more the better."""

_SQNR_IMAGES = 32


def in_int8(
    encoder: Encoder,
    images: NDArray[np.uint8],
    *,
    judge: Judge | None = None,
    max_loss: float | None = None,
    progress: Progress = SILENT,
) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in integers, calibrated on ``images`` uint8 (n, H, H, 3), and what that does to it.

    With ``judge`` and ``max_loss``, the score that may be lost: the first choice of these that keeps to it:
    everything in integers, the last convolution in float32, the first, both. The second result has ``images``
    (n), ``sqnr_db`` by tensor, ``in_float`` (nodes) and ``score``: {``float32``, ``int8``} or null. Raises
    :class:`NegativeResult` when none of them keeps to it, :class:`InputError` for no images.
    """
    if not len(images):
        raise InputError("there are no images to calibrate on", hint="give at least one with --calibration")
    graph = float_graph(encoder)
    tensors = grid_tensors(graph)
    all_grids = fit_grids(graph, tensors, images, progress=progress)
    exact = None if judge is None else judge(encoder.in_int8(None))
    for in_float in _choices(graph, judged=max_loss is not None):
        int8 = calibrated(graph, encoder, all_grids, in_float=in_float)
        chosen = encoder.in_int8(int8)
        score = None if judge is None else judge(int8_session(chosen, graph=graph))
        if max_loss is None or score is None or exact is None or exact - score <= max_loss:
            break
    else:
        assert exact is not None and score is not None
        raise NegativeResult(
            f"in int8 the score falls by {exact - score:.4f} to {score:.4f}, by at most {max_loss:g} it may",
            hint="allow more with --max-accuracy-loss, calibrate on more images, or export in fp32",
        )
    return chosen, {
        "images": len(images),
        "sqnr_db": _ratios(graph, int8, images),
        "in_float": list(int8.in_float),
        "score": None if exact is None else {"float32": exact, "int8": score},
    }


def _choices(graph: onnx.ModelProto, *, judged: bool) -> Iterator[tuple[str, ...]]:
    """Sets of nodes to leave in float32; the last convolutions are small, the first ones are not."""
    yield ()
    convolutions = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    if judged and len(convolutions) > 1:
        first, last = convolutions[0], convolutions[-1]
        yield from ((last,), (first,), (first, last))


def _ratios(graph: onnx.ModelProto, int8: Int8, images: NDArray[np.uint8]) -> dict[str, float]:
    """Rounded, so that a manifest's bytes do not hang on the order of sums."""
    found = sqnr_db(graph, quantised(graph, int8), list(int8.grids), images[:_SQNR_IMAGES])
    return {name: round(value, 1) for name, value in found.items()}
