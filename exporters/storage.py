"""How large the file of an encoder will be, before it is written."""

from __future__ import annotations

from ..encoders.costs import Costs

_FILE_KB = 0.5
_KERNEL_KB = 0.25
"""Node names, attributes and shapes; between 0.11 and 0.20 KiB a kernel on eleven backbones."""


def estimate_storage_kb(costs: Costs) -> float:
    """KiB of the float32 ONNX file: the weights, and a little more than any graph so far took around them."""
    return costs.weights_kb + _FILE_KB + _KERNEL_KB * len(costs.kernels)
