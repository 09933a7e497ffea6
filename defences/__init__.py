"""Defences: what changes an encoder so that what it sends tells less about the image.

``defend`` writes a defended version of a run's encoder or of a spec to a new folder; ``defend_encoder`` and
``adapt`` do so in memory. NoPeek fine-tunes the encoder's weights; noise and the payload's bits are fields of
the spec. ``eigen_projection`` and ``train_projection`` give a mixing of a cut's channels, from its features
alone. None of them is a proof: train the attackers afresh against the encoder that comes out.
"""

from .adversarial_projection import train_projection
from .collapse import Collapse, Spread
from .defend import PAYLOAD_BITS, Defences, Defended, defend, defend_encoder, features_std
from .eigen_projection import ChannelScatter, channel_scatter, eigen_projection
from .nopeek import MIN_BATCH, Adaptation, Measured, adapt

__all__ = [
    "MIN_BATCH",
    "PAYLOAD_BITS",
    "Adaptation",
    "ChannelScatter",
    "Collapse",
    "Defences",
    "Defended",
    "Measured",
    "Spread",
    "adapt",
    "channel_scatter",
    "defend",
    "defend_encoder",
    "eigen_projection",
    "features_std",
    "train_projection",
]
