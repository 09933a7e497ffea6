"""Folding normalisation into the convolution before it, as inference engines do."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .operators import Kind, kind_of, module_of, new_module


def fold_normalisation(traced: fx.GraphModule) -> None:
    """Fold, in place, each normalisation that alone reads a convolution.

    The convolution's node takes over the normalisation's path: it now gives that module's output.
    """
    for node in list(traced.graph.nodes):
        if kind_of(node) is not Kind.NORMALISATION:
            continue
        source = node.all_input_nodes[0]
        if kind_of(source) is not Kind.CONVOLUTION or len(source.users) != 1:
            continue
        convolution, normalisation = module_of(source), module_of(node)
        assert isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d)
        if normalisation.running_mean is None or normalisation.running_var is None:
            continue
        folded = copy.copy(convolution)
        folded._parameters = dict(convolution._parameters)
        folded.weight, folded.bias = _folded_parameters(convolution, normalisation)
        folded.requires_grad_(False)
        source.target = new_module(traced, f"{source.target}_folded", folded)
        node.replace_all_uses_with(source)
        source.meta["path"] = node.meta.get("path")
        traced.graph.erase_node(node)


def _folded_parameters(
    convolution: nn.Conv2d, normalisation: nn.BatchNorm2d
) -> tuple[nn.Parameter, nn.Parameter]:
    if convolution.weight.is_meta:
        bias = torch.empty(convolution.out_channels, device="meta")
        return nn.Parameter(convolution.weight), nn.Parameter(bias)
    assert normalisation.running_mean is not None and normalisation.running_var is not None
    return fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        normalisation.running_mean,
        normalisation.running_var,
        normalisation.eps,
        normalisation.weight,
        normalisation.bias,
    )
