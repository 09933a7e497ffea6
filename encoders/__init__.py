"""Encoders: a backbone up to a cut, with the kept channels only.

``parse_backbone`` and ``load_backbone`` give a backbone, ``Splitter`` its cuts and the costs of each choice,
``make_encoder`` an ``Encoder`` with its ``EncoderSpec``, ``build_encoder`` the same encoder from the spec.
``Payload`` is how features leave the device, ``Projection`` that mixtures of channels do, ``Encoder.adapt``
gives an encoder with weights trained further, ``write_encoder`` puts one into files.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..artifacts import Payload
from .spec import Adapted, EncoderSpec, Int8, Projection, ProjectionMethod, UnfitSpec

if TYPE_CHECKING:
    from .adapted import write_adapted
    from .backbones import Backbone, BackboneName, load_backbone, parse_backbone
    from .building import build_encoder, load_spec_backbone, make_encoder, write_encoder
    from .costs import Costs, module_costs
    from .encoder import Encoder
    from .kernels import Activation, Convolution, Kernel, KernelKind, Operation, Work, fuse
    from .projection import write_projection
    from .selection import fisher_scores, new_secret, random_channels, top_channels
    from .splitter import Cut, Splitter

__all__ = [
    "Activation",
    "Adapted",
    "Backbone",
    "BackboneName",
    "Convolution",
    "Costs",
    "Cut",
    "Encoder",
    "EncoderSpec",
    "Int8",
    "Kernel",
    "KernelKind",
    "Operation",
    "Payload",
    "Projection",
    "ProjectionMethod",
    "Splitter",
    "UnfitSpec",
    "Work",
    "build_encoder",
    "fisher_scores",
    "fuse",
    "load_backbone",
    "load_spec_backbone",
    "make_encoder",
    "module_costs",
    "new_secret",
    "parse_backbone",
    "random_channels",
    "top_channels",
    "write_adapted",
    "write_encoder",
    "write_projection",
]

# These need torch, which a machine that only reads specs and checks artifacts need not have.
_WITH_TORCH = {
    "adapted": ("write_adapted",),
    "backbones": ("Backbone", "BackboneName", "load_backbone", "parse_backbone"),
    "building": ("build_encoder", "load_spec_backbone", "make_encoder", "write_encoder"),
    "costs": ("Costs", "module_costs"),
    "encoder": ("Encoder",),
    "kernels": ("Activation", "Convolution", "Kernel", "KernelKind", "Operation", "Work", "fuse"),
    "projection": ("write_projection",),
    "selection": ("fisher_scores", "new_secret", "random_channels", "top_channels"),
    "splitter": ("Cut", "Splitter"),
}


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
