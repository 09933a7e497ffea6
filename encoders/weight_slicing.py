"""Convolutions and normalisations for some of their channels."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import nn


def slice_convolution(convolution: nn.Conv2d, rows: Sequence[int], columns: Sequence[int]) -> nn.Conv2d:
    """A copy with the output channels ``rows`` that takes the input channels ``columns``, in that order.

    Of a grouped convolution the columns must be those of the rows' groups.
    """
    sliced = copy.copy(convolution)
    sliced._parameters = dict(convolution._parameters)
    weight = convolution.weight[list(rows)]
    if convolution.groups == 1:
        weight = weight[:, list(columns)]
    else:
        sliced.groups = len(columns) // (convolution.in_channels // convolution.groups)
    sliced.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if convolution.bias is not None:
        sliced.bias = nn.Parameter(convolution.bias[list(rows)], requires_grad=False)
    sliced.out_channels, sliced.in_channels = len(rows), len(columns)
    return sliced


def slice_normalisation(module: nn.BatchNorm2d, kept: Sequence[int]) -> nn.BatchNorm2d:
    """A copy for the channels ``kept``, in that order."""
    sliced = copy.copy(module)
    sliced._parameters, sliced._buffers = dict(module._parameters), dict(module._buffers)
    sliced.num_features = len(kept)
    for name in ("weight", "bias"):
        if (parameter := module._parameters[name]) is not None:
            sliced._parameters[name] = nn.Parameter(parameter[list(kept)], requires_grad=False)
    for name in ("running_mean", "running_var"):
        if (buffer := module._buffers[name]) is not None:
            sliced._buffers[name] = buffer[list(kept)]
    return sliced
