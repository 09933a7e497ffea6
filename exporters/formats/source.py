"""What a converter starts from, and what its result is compared with."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ...encoders import Encoder

Send = Callable[[NDArray[np.uint8], NDArray[np.float32] | None], NDArray[Any]]
"""From images (n, H, H, 3) and noise (n, C, h, w) to what leaves the device for each."""


@dataclass(frozen=True)
class Source:
    """An encoder, the ONNX file that ships it, and what that file gives."""

    encoder: Encoder
    model: Path
    """``encoder.onnx``."""
    images: NDArray[np.uint8]
    """(n, H, H, 3)"""
    noise: NDArray[np.float32] | None
    """(n, C, h, w); ``None`` where none is added."""
    wanted: NDArray[Any]
    """What ``encoder.onnx`` sends for them."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Converters say much that does not concern who exports."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        heard = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
