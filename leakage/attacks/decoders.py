"""The trained inversion decoders: black-box attackers that learn from pairs to turn features to images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...progress import SILENT, Progress
from ..view import Knowledge, View

if TYPE_CHECKING:
    from ..decoders import Decoder


@dataclass(frozen=True)
class DecoderAttack:
    """One architecture of inversion decoder, trained by ``train_decoder``."""

    name: str
    architecture: str
    knows: tuple[Knowledge, ...] = ("pairs",)

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> Decoder:
        """Train the decoder; see ``train_decoder``."""
        from ..decoders import train_decoder

        assert view.pairs is not None
        train, val = view.pairs
        return train_decoder(
            train,
            val,
            architecture=self.architecture,
            seed=seed,
            budget_s=budget_s,
            accelerator=accelerator,
            progress=progress,
        )


DECODER_SMALL = DecoderAttack("decoder-small", "small")
DECODER_RESIDUAL = DecoderAttack("decoder-residual", "residual")
DECODER_UNET = DecoderAttack("decoder-unet", "unet")
