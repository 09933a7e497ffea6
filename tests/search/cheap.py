"""A search that costs next to nothing: hardly a candidate is within its limit on computing."""

from __future__ import annotations

from typing import Any

from privynet.encoders import Splitter, load_backbone, parse_backbone

_SPLITTER = Splitter(load_backbone(parse_backbone("bundled"), shapes_only=True), 16)

CHEAP: dict[str, Any] = {
    "device": "raspberry-pi-zero-2w",
    "data": "digits",
    "trials": 3,
    "input_sizes": (16,),
    "train_images": 100,
    "attack_pairs": 50,
    "attack_budget_s": 0.3,
    "certify": 1,
    "policies": ("fisher", "random"),
    "limits": {"macs": float(_SPLITTER.costs(_SPLITTER.cuts[0].name, [0]).macs)},
}
