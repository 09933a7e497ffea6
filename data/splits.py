"""Which split an image belongs to: decided by its content, so that no seed and no file name can move it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPLITS = ("head-train", "attack-train", "attack-val", "select", "test")
"""The names of the splits. Search and certification see ``select``; ``test`` is for the final figures."""

_TEST = SPLITS.index("test")
_SHARES = (0.55, 0.25, 0.05, 0.15)
"""Of what is not ``test``: head-train, attack-train, attack-val, select."""
_TEST_SHARE = 0.2
"""Of a source without an official test set."""


def hash_order(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The order of images by hash, equal hashes by index.

    ``hashes``: (N, 32), the SHA-256 of each image. Returns (N,) indices.
    """
    leading, trailing = _words(hashes)
    return np.lexsort((np.arange(len(hashes)), trailing, leading))


def assign(hashes: NDArray[np.uint8], official_test: NDArray[np.bool_] | None) -> NDArray[np.int8]:
    """The split of every image, as an index into ``SPLITS``.

    ``hashes``: (N, 32), the SHA-256 of each image; ``official_test``: (N,) which images the source calls its
    test set, or ``None`` where it names none. Equal images get the same split; one that is also in the
    official test set is ``test``.
    """
    position = _words(hashes)[0] / 2.0**64
    bounds = np.cumsum(_SHARES)[:-1]
    if official_test is None:
        rest = (position - _TEST_SHARE) / (1 - _TEST_SHARE)
        split = np.searchsorted(bounds, rest, side="right").astype(np.int8)
        split[position < _TEST_SHARE] = _TEST
    else:
        split = np.searchsorted(bounds, position, side="right").astype(np.int8)
        rows = np.ascontiguousarray(hashes).view("S32").ravel()
        split[np.isin(rows, rows[official_test])] = _TEST
    return split


def _words(hashes: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    words = np.ascontiguousarray(hashes).view(">u8")
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)
