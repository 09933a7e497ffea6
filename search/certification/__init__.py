"""The best candidates built for real: exported, given heads anew, attacked with all strength, and kept."""

from .certification import Certified, Outcome, certify

__all__ = [
    "Certified",
    "Outcome",
    "certify",
]
