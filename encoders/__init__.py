"""Encoders: a backbone up to a cut, with the kept channels only.

``parse_backbone`` and ``load_backbone`` give a backbone, ``Splitter`` its cuts and the costs of each choice,
``make_encoder`` an ``Encoder`` with its ``EncoderSpec``, ``build_encoder`` the same encoder from the spec.
"""

from .backbones import Backbone, BackboneName, load_backbone, parse_backbone
from .costs import Costs, Kernel, module_costs
from .encoder import Encoder, build_encoder, make_encoder
from .selection import fisher_scores, new_secret, random_channels, top_channels
from .spec import EncoderSpec
from .splitter import Cut, Splitter

__all__ = [
    "Backbone",
    "BackboneName",
    "Costs",
    "Cut",
    "Encoder",
    "EncoderSpec",
    "Kernel",
    "Splitter",
    "build_encoder",
    "fisher_scores",
    "load_backbone",
    "make_encoder",
    "module_costs",
    "new_secret",
    "parse_backbone",
    "random_channels",
    "top_channels",
]
