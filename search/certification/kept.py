"""Finished certifications in a run folder: what was found is not found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...artifacts import RunFolder, read_document, replace_file, write_document
from ...data import Score
from ...encoders import Encoder, EncoderSpec
from ...leakage import Leakage
from ..evaluation import TrialRecord

_KIND = "certification"
_SHOWN = 4


@dataclass(frozen=True)
class KeptCertification:
    """A finished certification in the run folder: its document, the exported file, and some images."""

    document: Path
    model: Path
    images: Path

    @classmethod
    def of(cls, run: RunFolder, record: TrialRecord) -> KeptCertification:
        folder = run.path / "certifications"
        folder.mkdir(mode=0o700, exist_ok=True)
        text = json.dumps(record.candidate.document(), sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(*(folder / f"{name}{suffix}" for suffix in (".json", ".onnx", ".npz")))

    def read(self) -> dict[str, Any]:
        """What was found."""
        body: dict[str, Any] = read_document(self.document, _KIND)
        return body

    def salt(self) -> str | None:
        """Of the encoder that was examined, where one was: with it the digest is the same again."""
        return EncoderSpec.from_document(self.read()["spec"]).salt if self.document.exists() else None

    def fits(self, encoder: Encoder) -> bool:
        """Whether it is this very encoder that was examined."""
        if not self.document.exists():
            return False
        spec = EncoderSpec.from_document(self.read()["spec"], source=str(self.document))
        return spec.digest == encoder.digest

    def write(
        self,
        encoder: Encoder,
        utility: Score,
        heads: Sequence[float],
        leakage: Leakage,
        originals: NDArray[np.uint8] | None,
    ) -> None:
        """Keep what was found; the document comes last, so that with it all is there."""
        if originals is not None:
            with replace_file(self.images, private=True) as temporary:
                np.savez(temporary, allow_pickle=False, **_pick_images(originals, leakage))
        body = {
            "spec": encoder.spec.document(),
            "utility": utility.document(),
            "heads": list(heads),
            "leakage": leakage.document(),
        }
        write_document(self.document, _KIND, body, private=True)


def _pick_images(originals: NDArray[np.uint8], leakage: Leakage) -> dict[str, NDArray[Any]]:
    """The images that the attack rebuilt best, in the middle, and worst."""
    psnr_db = leakage.strongest.image_scores.psnr_db
    order = np.argsort(-psnr_db, kind="stable")
    middle = max(0, len(order) // 2 - _SHOWN // 2)
    chosen = np.unique(np.concatenate([order[:_SHOWN], order[middle : middle + _SHOWN], order[-_SHOWN:]]))
    chosen = chosen[np.argsort(-psnr_db[chosen], kind="stable")]
    return {
        "originals": originals[chosen],
        "reconstructions": leakage.reconstructions[chosen],
        "psnr_db": psnr_db[chosen],
    }
