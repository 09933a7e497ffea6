"""Several captures of one scene: what defeats noise that is drawn afresh for every capture.

The mean over k captures has 1/k of the noise's variance, so the decoder, trained on such means, sees the
scene as if the encoder's noise were weaker by the square root of k. It does not help against an encoder that
is deterministic, nor against noise that is a fixed function of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...progress import SILENT, Progress
from ..view import Knowledge, View

if TYPE_CHECKING:
    from ..decoders import Decoder


@dataclass(frozen=True)
class AveragingAttack:
    """A decoder for means over several captures; its features to invert are such means too."""

    name: str = "averaging"
    knows: tuple[Knowledge, ...] = ("captures",)

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> Decoder:
        """Train the decoder on the averaged pairs; see ``train_decoder``."""
        from ..decoders import train_decoder

        assert view.captures is not None
        train, val = view.captures
        return train_decoder(
            train, val, seed=seed, budget_s=budget_s, accelerator=accelerator, progress=progress
        )


AVERAGING = AveragingAttack()
"""The attacker that sees each scene several times."""
