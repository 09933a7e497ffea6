"""How much of each tensor's signal quantisation leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .calibrating import run_tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx


def sqnr_db(
    model: onnx.ModelProto,
    in_integers: onnx.ModelProto,
    tensors: Sequence[str],
    images: NDArray[np.uint8],
) -> dict[str, float]:
    """The signal-to-quantisation-noise ratio of each of ``tensors``: 10 lg(sum x^2 / sum (x - q)^2), in dB.

    x are the values in the float32 ``model``, q those in ``in_integers``, which ``quantised`` made of it,
    errors of all layers before included. ``images``: uint8 (n, H, H, 3). At most 120 dB.
    """
    outputs = {one.name for one in in_integers.graph.output}
    # What readers get is the dequantised tensor; for a graph's output that has the tensor's own name.
    quantised = [name if name in outputs else f"{name}_DequantizeLinear_Output" for name in tensors]
    signal, noise = np.zeros(len(tensors)), np.zeros(len(tensors))
    pairs = zip(run_tensors(model, tensors, images), run_tensors(in_integers, quantised, images), strict=True)
    for exact, rounded in pairs:
        for at, (name, other) in enumerate(zip(tensors, quantised, strict=True)):
            values = exact[name].astype(np.float64)
            signal[at] += (values**2).sum()
            noise[at] += ((values - rounded[other]) ** 2).sum()
    ratios = np.divide(signal, noise, out=np.full_like(signal, np.inf), where=noise > 0)
    with np.errstate(divide="ignore"):
        found = np.minimum(10 * np.log10(ratios), 120.0)
    return {name: float(value) for name, value in zip(tensors, found, strict=True)}
