"""What an attacker recovers of an image from what an encoder sends, and how it is measured.

``attack_features`` runs the inversion attacks on pairs of features and images; ``audit`` does so for an
encoder and a data set, with a positive control. Every score stands beside the blind guess (the mean
training image) and the label-only floor (the class mean image).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .attack import ATTACKS, Attack, AttackResult, DecoderAttack, Inversion, Leakage, attack_features
from .baselines import class_mean_images, mean_image
from .feature_audit import CONTROL_PSNR_DB, AuditResult, FeatureEncoder, audit
from .measures import ImageScores, Recovery, score_images
from .pairs import Pairs

if TYPE_CHECKING:
    from .decoder import Decoder, train_decoder

__all__ = [
    "ATTACKS",
    "CONTROL_PSNR_DB",
    "Attack",
    "AttackResult",
    "AuditResult",
    "Decoder",
    "DecoderAttack",
    "FeatureEncoder",
    "ImageScores",
    "Inversion",
    "Leakage",
    "Pairs",
    "Recovery",
    "attack_features",
    "audit",
    "class_mean_images",
    "mean_image",
    "score_images",
    "train_decoder",
]


def __getattr__(name: str) -> Any:
    # The decoder imports torch, which the command line's help must not wait for.
    if name in ("Decoder", "train_decoder"):
        from . import decoder

        return getattr(decoder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
