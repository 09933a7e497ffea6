"""How much of an image a reconstruction recovers, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Score
from ..errors import InputError

MAX_PSNR_DB = 60.0
"""PSNR is capped here: a perfect reconstruction must not make a mean infinite."""
_BATCH = 128


@dataclass(frozen=True)
class ImageScores:
    """Scores of n reconstructions, each array (n,) float64, one figure per image.

    ``squared_error`` and ``blind_squared_error`` are sums over an image's R x R x 3 values in [0, 1]; the
    blind one is that of the mean training image.
    """

    psnr_db: NDArray[np.float64]
    ssim: NDArray[np.float64]
    squared_error: NDArray[np.float64]
    blind_squared_error: NDArray[np.float64]

    @classmethod
    def concatenate(cls, parts: Sequence[ImageScores]) -> ImageScores:
        """The scores of all parts, in order."""
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("psnr_db", "ssim", "squared_error", "blind_squared_error")
            )
        )

    def summary(self, *, seed: int = 0) -> Recovery:
        """Mean PSNR, mean SSIM and overall r2 with their intervals; ``seed`` is the bootstrap's."""
        return Recovery(
            psnr_db=Score.mean(self.psnr_db, seed),
            ssim=Score.mean(self.ssim, seed),
            r2=Score.r2(self.squared_error, self.blind_squared_error, seed),
        )


@dataclass(frozen=True)
class Recovery:
    """What was recovered over all images: mean PSNR (dB), mean SSIM, and r2 over the blind guess."""

    psnr_db: Score
    ssim: Score
    r2: Score

    def scores(self) -> Mapping[str, Score]:
        """The scores by the name that documents use."""
        return {"psnr_db": self.psnr_db, "ssim": self.ssim, "r2": self.r2}

    def document(self) -> dict[str, Any]:
        """As in an audit's document."""
        return {name: score.document() for name, score in self.scores().items()}


def score_images(
    reconstructions: NDArray[np.floating[Any]],
    images: NDArray[np.uint8],
    *,
    mean_image: NDArray[np.floating[Any]],
) -> ImageScores:
    """Score reconstructions (n, R, R, 3) in [0, 1] of uint8 images (n, R, R, 3), R at least 16.

    PSNR has peak 1 and is capped at 60 dB. SSIM (Wang et al. 2004) has a Gaussian window of 11 x 11,
    sigma 1.5, data range 1, and is averaged over channels and pixels, borders reflected. ``mean_image``:
    the blind guess, (R, R, 3) in [0, 1]. Raises ``InputError`` for shapes that differ.
    """
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    if reconstructions.shape != images.shape or mean_image.shape != images.shape[1:]:
        raise InputError(
            f"reconstructions {reconstructions.shape}, mean image {mean_image.shape}, images {images.shape}",
            hint="needed: the same (n, R, R, 3)",
        )
    count, values = len(images), images[0].size
    squared, blind, ssim = (np.empty(count) for _ in range(3))
    for start in range(0, count, _BATCH):
        rows = slice(start, min(start + _BATCH, count))
        truth = images[rows].astype(np.float32) / np.float32(255)
        guess = reconstructions[rows].astype(np.float32)
        squared[rows] = np.square(guess - truth, dtype=np.float64).sum(axis=(1, 2, 3))
        blind[rows] = np.square(mean_image - truth, dtype=np.float64).sum(axis=(1, 2, 3))
        similarity = structural_similarity_index_measure(
            torch.from_numpy(guess).permute(0, 3, 1, 2),
            torch.from_numpy(truth).permute(0, 3, 1, 2),
            gaussian_kernel=True,
            sigma=1.5,
            kernel_size=11,
            data_range=1.0,
            reduction="none",
        )
        assert isinstance(similarity, torch.Tensor)
        ssim[rows] = similarity.numpy()
    return ImageScores(psnr_db(squared / values), ssim, squared, blind)


def psnr_db(mean_squared_error: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    """10 log10(1 / error) for values in [0, 1], capped at 60 dB."""
    return np.asarray(np.minimum(MAX_PSNR_DB, -10 * np.log10(np.maximum(mean_squared_error, 1e-12))))
