"""An encoder's file, run by ONNX Runtime as a device would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..artifacts import OrtEncoder

if TYPE_CHECKING:
    from ..encoders import Encoder


def open_exported(encoder: Encoder, path: Path, *, threads: int = 1) -> OrtEncoder:
    """What was written of ``encoder``, as ONNX or in ONNX Runtime's own format.

    Raises as :meth:`OrtEncoder.open` does.
    """
    return OrtEncoder.open(
        path,
        digest=encoder.digest,
        payload=encoder.payload,
        noise_std=encoder.noise_std,
        feature_shape=encoder.feature_shape,
        threads=threads,
    )
