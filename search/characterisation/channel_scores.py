"""What each channel of a cut is worth by itself, what it gives away, and whether the others say it anyway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...encoders import Splitter
from ...progress import SILENT, Progress
from .features import FeatureStore
from .image_moments import ImageMoments
from .moments import CutMoments, key_of_moments

_VERSION = 2
_RELATIVE_RIDGE = 1e-6


@dataclass(frozen=True)
class ChannelScores:
    """Of the C channels of a cut, float64 (C,) each.

    ``fisher``: Fisher's discriminant, 0 or more, higher separates the classes better. ``leakage``: the
    closed-form r2 of an attacker who sees this channel only. ``redundancy``: from 0 to 1, the share of the
    channel's variance that the others at the same place explain linearly.
    """

    fisher: NDArray[np.float64]
    leakage: NDArray[np.float64]
    redundancy: NDArray[np.float64]


def channel_scores(
    store: FeatureStore,
    splitter: Splitter,
    cut: str,
    moments: CutMoments,
    *,
    progress: Progress = SILENT,
) -> ChannelScores:
    """The scores of a cut's channels, from the store's cache; ``moments`` are those of the cut.

    Raises as ``FeatureStore.features``.
    """
    key = {**key_of_moments(store, splitter, cut), "what": "channel scores", "version": _VERSION}

    def build(path: Path) -> None:
        with progress.task(f"channels of {cut}"):
            arrays = {"leakage": leakage_alone(moments), "redundancy": redundancy(moments.images)}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    with np.load(store.cache.file(key, build, progress=progress), allow_pickle=False) as stored:
        return ChannelScores(moments.fisher, stored["leakage"], stored["redundancy"])


def leakage_alone(moments: CutMoments) -> NDArray[np.float64]:
    """The closed-form r2 of each channel kept alone, (C,)."""
    return np.array([moments.leakage([channel]) for channel in range(moments.channels)])


def redundancy(moments: ImageMoments) -> NDArray[np.float64]:
    """How well linear regression on all other channels at a place predicts each channel, (C,).

    The held-out share of explained variance, at least 0; 1 for a channel that is constant. The regressions of
    all channels come from one inverse: that of channel c has the weights -P[:, c] / P[c, c], P the inverse of
    the covariance matrix.
    """
    fitted, val = (
        np.einsum("atbt->ab", gram.reshape(2 * (moments.channels, moments.taps)).astype(np.float64))
        for gram in (moments.gram, moments.val_gram)
    )
    scale = np.sqrt(np.diag(fitted))
    scale = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0)
    fitted, val = (matrix * scale[:, None] * scale for matrix in (fitted, val))
    inverse = np.linalg.inv(fitted + _RELATIVE_RIDGE * np.eye(len(fitted)))
    rest = np.einsum("ac,ab,bc->c", inverse, val, inverse, optimize=True) / np.diag(inverse) ** 2
    varies = np.diag(val) > 0
    explained = 1 - rest / np.where(varies, np.diag(val), 1)
    return np.where(varies, np.clip(explained, 0, 1), 1.0)
