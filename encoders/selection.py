"""Which channels of a cut are kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import numpy as np
from numpy.typing import NDArray

_SECRET_BYTES = 32


def new_secret() -> bytes:
    """A secret of 256 bits from the operating system."""
    return secrets.token_bytes(_SECRET_BYTES)


def random_channels(secret: bytes, *, available: int, count: int, purpose: str) -> tuple[int, ...]:
    """``count`` of ``available`` channels, at random for all who do not hold the secret.

    The channels with the smallest HMAC-SHA256 under the secret; ``purpose`` (backbone and cut) separates the
    choices made with one secret. For one purpose, a smaller count is a subset of a larger one.
    """
    keys = [
        hmac.digest(secret, f"{purpose}\n{channel}".encode(), hashlib.sha256) for channel in range(available)
    ]
    order = sorted(range(available), key=keys.__getitem__)
    return tuple(sorted(order[:count]))


def top_channels(scores: NDArray[np.float64], count: int) -> tuple[int, ...]:
    """The ``count`` channels with the highest scores; of equal ones the first."""
    order = np.argsort(-scores, kind="stable")
    return tuple(sorted(int(channel) for channel in order[:count]))


def fisher_scores(features: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fisher's discriminant of each channel: how well it alone separates the classes.

    A channel's feature vector is its map (h * w values); its score is the trace of the between-class scatter
    over the trace of the within-class scatter (Fisher's linear discriminant as PrivyNet, arXiv 1709.06161,
    ranks channels with). ``features``: (n, C, h, w), any float type, may be memory-mapped; ``labels``: int64
    (n,). Returns float64 (C,); a channel that is constant within all classes scores 0.
    """
    n, channels = features.shape[:2]
    classes, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members).astype(np.float64)
    sums = np.zeros((len(classes), *features.shape[1:]), np.float64)
    squares = np.zeros(channels, np.float64)
    for start in range(0, n, _BATCH):
        part = np.asarray(features[start : start + _BATCH], np.float32)
        which = members[start : start + _BATCH]
        one_hot = np.zeros((len(classes), len(part)), np.float32)
        one_hot[which, np.arange(len(part))] = 1
        sums += (one_hot @ part.reshape(len(part), -1)).reshape(sums.shape)
        squares += np.einsum("nchw,nchw->c", part, part, dtype=np.float64)
    means = sums / counts[:, None, None, None]
    overall = sums.sum(0) / n
    between = np.einsum("k,kchw->c", counts, (means - overall) ** 2)
    within = squares - np.einsum("k,kchw->c", counts, means**2)
    usable = within > 1e-9 * np.maximum(squares, 1e-30)
    return np.where(usable, between / np.where(usable, within, 1), 0.0)


_BATCH = 1024
