"""The pack of micro-models: networks of seeded random shape that separate what a target's time depends on.

Half of them are deep, as encoders cut from real networks are; half are a few blocks at one of the places that
such networks pass through, from a large image with few channels to a small one with many.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .families import DEEP, SHALLOW

if TYPE_CHECKING:
    import onnx

COUNT = 160
SEED = 0


@dataclass(frozen=True)
class MicroModel:
    """A network to be timed: uint8 pixels (1, H, H, 3) in, float32 features out, some kilobytes."""

    name: str
    model: onnx.ModelProto


def micro_models() -> list[MicroModel]:
    """The pack."""
    models = []
    for number in range(COUNT):
        generator = random.Random(f"{SEED}:{number}")
        families = SHALLOW if number % 2 else DEEP
        family, draw = families[number // 2 % len(families)]
        network = draw(generator)
        if generator.random() < 0.5:
            network.convolve(generator.choice((4, 8, 12, 16, 24, 32, 48)))
        models.append(MicroModel(f"{number:03d}-{family}", network.model()))
    return models
