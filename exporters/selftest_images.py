"""Whose images the self-test of an artifact holds."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data import open_data
from ..errors import InputError
from .findings import Finding, warning
from .probes import synthetic_images

SelfTest = Literal["synthetic", "data"]
_COUNT = 8
_SPLIT = "head-train"


def selftest_images(kind: SelfTest, *, data: str | None, size: int, seed: int) -> NDArray[np.uint8]:
    """Images, uint8 (n, size, size, 3): nobody's, or the first of ``data``.

    Raises ``InputError`` for images of data without ``data``, or where these cannot be read.
    """
    if kind == "synthetic":
        return synthetic_images(size, seed=seed)
    if data is None:
        raise InputError("a self-test of real images needs some", hint="name them with --data SOURCE")
    return open_data(data).split(_SPLIT, limit=_COUNT).images(size)


def selftest_warnings(kind: SelfTest, *, data: str | None) -> list[Finding]:
    """The finding that the self-test shows somebody's images."""
    if kind == "synthetic":
        return []
    message = f"holds real images of {data}: whoever has the artifact can look at them"
    return [warning("selftest", "selftest.npz", message)]
