"""In which precision an encoder is exported, and what that does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from ..progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..encoders import Encoder, EncoderSpec
    from .int8 import Judge

Precision = Literal["fp32", "int8"]


def precision_of(spec: EncoderSpec, wanted: Precision | None) -> Precision:
    """What is asked for, else the spec's."""
    return wanted or ("int8" if spec.int8 else "fp32")


def in_precision(
    encoder: Encoder,
    precision: Precision,
    *,
    images: NDArray[np.uint8] | None = None,
    judge: Judge | None = None,
    max_loss: float | None = None,
    progress: Progress = SILENT,
) -> tuple[Encoder, dict[str, Any] | None]:
    """The encoder in a precision, and for int8 what the manifest says of it.

    int8 is calibrated on ``images``; without any, the grids are the spec's. Raises as
    :func:`privynet.exporters.int8.in_int8` does, and :class:`InputError` where there are neither.
    """
    from .int8 import in_int8

    if precision == "fp32":
        return encoder.in_int8(None), None
    if images is not None:
        return in_int8(encoder, images, judge=judge, max_loss=max_loss, progress=progress)
    if encoder.spec.int8 is None:
        raise InputError(
            "int8 needs images to calibrate on", hint="name their source with --data, or export in fp32"
        )
    return encoder, {"images": 0, "sqnr_db": {}, "in_float": list(encoder.spec.int8.in_float), "score": None}
