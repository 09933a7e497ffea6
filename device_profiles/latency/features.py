"""What the time of a network is a linear function of: work of its kernels by kind, and how many there are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...encoders import Kernel

FEATURES: dict[str, str] = {
    "per_run_overhead": "ms",
    "per_kernel_overhead": "ms",
    "per_small_kernel_overhead": "ms",
    "per_reorder_overhead": "ms",
    "conv3x3s1": "ms/GMAC",
    "conv": "ms/GMAC",
    "pointwise": "ms/GMAC",
    "depthwise": "ms/GMAC",
    "grouped": "ms/GMAC",
    "linear": "ms/GMAC",
    "unblocked_depthwise": "ms/GMAC",
    "unblocked_grouped": "ms/GMAC",
    "border": "ms/GMAC",
    "border_depthwise": "ms/GMAC",
    "unfolded": "ms/Melement",
    "unblocked_unfolded": "ms/Melement",
    "weights": "ms/Mweight",
    "weights_over_1mb": "ms/Mweight",
    "weights_over_8mb": "ms/Mweight",
    "weights_over_32mb": "ms/Mweight",
    "activations": "ms/Melement",
    "depthwise_activations": "ms/Melement",
    "activations_over_500kb": "ms/Melement",
    "image": "ms/Melement",
    "elementwise": "ms/Melement",
    "bounded": "ms/Melement",
    "activated": "ms/Melement",
    "gated": "ms/Melement",
    "pool": "ms/Melement",
    "mean": "ms/Melement",
    "move": "ms/Melement",
    "reordered": "ms/Melement",
}
"""The features by name, with the unit of their coefficients; docs/devices.md says what each is."""

_OVER = {"weights_over_1mb": 1, "weights_over_8mb": 8, "weights_over_32mb": 32}
NETWORK_WIDE = tuple(_OVER)
"""Features that are no sum over kernels."""
# Caches hold bytes; an element or a weight counts as one in float32.
_BYTES = 4
_CACHED_ELEMENTS = 500_000 / _BYTES


def features_of(kernels: Iterable[Kernel], *, channel_block: int = 1) -> dict[str, float]:
    """The features of a network, in giga and mega of the units that :data:`FEATURES` gives per coefficient.

    ``channel_block``: convolutions work on whole blocks of so many channels, of which the last may be partly
    empty.
    """
    found = dict.fromkeys(FEATURES, 0.0)
    found["per_run_overhead"] = 1.0
    for kernel in kernels:
        if kernel.convolution is not None:
            _add_convolution(found, kernel, channel_block)
        elif kernel.kind == "linear":
            found["per_kernel_overhead"] += 1
            found["linear"] += kernel.macs / 1e9
            found["activations"] += (kernel.input_elements + kernel.output_elements) / 1e6
            found["weights"] += kernel.weights / 1e6
        else:
            found["per_small_kernel_overhead"] += 1
            found[kernel.kind] += (kernel.input_elements + kernel.output_elements) / 1e6
            found["gated"] += kernel.activated_elements / 1e6
        elements = kernel.input_elements + kernel.output_elements
        found["activations_over_500kb"] += max(0.0, elements - _CACHED_ELEMENTS) / 1e6
        found["per_reorder_overhead"] += kernel.reorders
        # Read and written.
        found["reordered"] += 2 * kernel.reordered_elements / 1e6
    for name, megabytes in _OVER.items():
        found[name] = max(0.0, found["weights"] - megabytes / _BYTES)
    return found


def _add_convolution(found: dict[str, float], kernel: Kernel, block: int) -> None:
    shape = kernel.convolution
    assert shape is not None
    window = math.prod(shape.window)
    pixels = shape.output_height * shape.output_width
    # An image is read as it is; groups cannot share a block.
    whole = shape.kind != "grouped"
    inputs, outputs = shape.input_channels, shape.output_channels
    if whole:
        inputs = inputs if shape.reads_image else _blocks(inputs, block)
        outputs = _blocks(outputs, block)
    depthwise = shape.kind == "depthwise"
    weights = outputs * window * (1 if depthwise else inputs / shape.groups)
    gmacs = weights * pixels / 1e9
    unblocked = _is_unblocked(kernel, block)
    found[f"unblocked_{shape.kind}" if unblocked else shape.kind] += gmacs
    melements = shape.input_channels * pixels * window / 1e6
    if shape.kind == "grouped" and unblocked:
        found["unblocked_unfolded"] += melements
    elif shape.kind in ("conv", "conv3x3s1"):
        found["unfolded"] += melements
    if whole:
        # Windows that reach over the left and right border are computed apart.
        share = min(1.0, (shape.window[1] - 1) / shape.output_width)
        found["border_depthwise" if depthwise else "border"] += gmacs * share
    found["weights"] += weights / 1e6
    moved = kernel.input_elements * inputs / shape.input_channels + outputs * pixels
    found["depthwise_activations" if depthwise else "activations"] += moved / 1e6
    padding = outputs / shape.output_channels
    found["bounded"] += padding * kernel.bounded_elements / 1e6
    found["activated"] += padding * kernel.activated_elements / 1e6
    found["per_kernel_overhead"] += 1


def _blocks(channels: int, block: int) -> int:
    return -(-channels // block) * block


def _is_unblocked(kernel: Kernel, block: int) -> bool:
    """Whether a convolution's groups do not fill blocks, so that it is computed without them."""
    shape = kernel.convolution
    assert shape is not None
    if shape.kind == "grouped":
        sizes = shape.input_channels // shape.groups, shape.output_channels // shape.groups
        return any(size % block for size in sizes)
    return shape.kind == "depthwise" and kernel.reorders > 0 and shape.input_channels % block > 0
