"""Every reconstruction attack there is, one file each; the conformance suite runs all of them.

Importing this imports no torch: the command line names the attacks in its help.
"""

from ..attack import Attack
from .averaging import AVERAGING
from .decoders import DECODER_RESIDUAL, DECODER_SMALL, DECODER_UNET
from .likelihood import LIKELIHOOD
from .likelihood_prior import LIKELIHOOD_PRIOR
from .ridge import RIDGE
from .substitute import SUBSTITUTE
from .unknown_channels import UNKNOWN_CHANNELS

ATTACKS: tuple[Attack, ...] = (
    RIDGE,
    DECODER_SMALL,
    DECODER_RESIDUAL,
    DECODER_UNET,
    LIKELIHOOD,
    LIKELIHOOD_PRIOR,
    SUBSTITUTE,
    UNKNOWN_CHANNELS,
    AVERAGING,
)
"""In the order in which an audit runs and lists them."""

PAIRS_ATTACKS: tuple[Attack, ...] = tuple(attack for attack in ATTACKS if attack.knows == ("pairs",))
"""Those that need only pairs."""

__all__ = [
    "ATTACKS",
    "AVERAGING",
    "DECODER_RESIDUAL",
    "DECODER_SMALL",
    "DECODER_UNET",
    "LIKELIHOOD",
    "LIKELIHOOD_PRIOR",
    "PAIRS_ATTACKS",
    "RIDGE",
    "SUBSTITUTE",
    "UNKNOWN_CHANNELS",
]
