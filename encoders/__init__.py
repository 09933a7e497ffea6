"""Encoders: a backbone up to a cut, with the kept channels only.

``parse_backbone`` and ``load_backbone`` give a backbone, ``Splitter`` its cuts and the costs of each choice,
``make_encoder`` an ``Encoder`` with its ``EncoderSpec``, ``build_encoder`` the same encoder from the spec.
``Payload`` is how features leave the device, ``Encoder.adapt`` an encoder with weights trained further.
"""

from .adapted import write_adapted
from .backbones import Backbone, BackboneName, load_backbone, parse_backbone
from .costs import Costs, Kernel, module_costs
from .encoder import Encoder, build_encoder, load_spec_backbone, make_encoder
from .payload import Payload
from .selection import fisher_scores, new_secret, random_channels, top_channels
from .spec import Adapted, EncoderSpec
from .splitter import Cut, Splitter

__all__ = [
    "Adapted",
    "Backbone",
    "BackboneName",
    "Costs",
    "Cut",
    "Encoder",
    "EncoderSpec",
    "Kernel",
    "Payload",
    "Splitter",
    "build_encoder",
    "fisher_scores",
    "load_backbone",
    "load_spec_backbone",
    "make_encoder",
    "module_costs",
    "new_secret",
    "parse_backbone",
    "random_channels",
    "top_channels",
    "write_adapted",
]
