"""Defences: what changes an encoder so that what it sends tells less about the image.

``defend`` writes a defended version of a run's encoder or of a spec to a new folder; ``defend_encoder`` and
``adapt`` do so in memory. NoPeek fine-tunes the encoder's weights; noise and the payload's bits are fields of
the spec. None of them is a proof: train the attackers afresh against the encoder that comes out.
"""

from .collapse import Collapse, Spread
from .defend import PAYLOAD_BITS, Defences, Defended, defend, defend_encoder, features_std
from .nopeek import MIN_BATCH, Adaptation, Measured, adapt

__all__ = [
    "MIN_BATCH",
    "PAYLOAD_BITS",
    "Adaptation",
    "Collapse",
    "Defences",
    "Defended",
    "Measured",
    "Spread",
    "adapt",
    "defend",
    "defend_encoder",
    "features_std",
]
