"""In which precision an encoder is exported, and what that does to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InputError
from ..progress import SILENT, Progress
from .findings import Finding, warning

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..encoders import Encoder, EncoderSpec
    from .int8 import Judge

Precision = Literal["fp32", "int8"]

_LOSS_TO_SAY = 0.01


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

    int8 is calibrated on ``images``; without any, the grids are the spec's, and ``judge`` is asked of these.
    Raises as :func:`privynet.exporters.int8.in_int8` does, and :class:`InputError` where there are neither.
    """
    from .int8 import in_int8, int8_session

    if precision == "fp32":
        return encoder.in_int8(None), None
    if images is not None:
        return in_int8(encoder, images, judge=judge, max_loss=max_loss, progress=progress)
    if encoder.spec.int8 is None:
        raise InputError(
            "int8 needs images to calibrate on", hint="name their source with --data, or export in fp32"
        )
    score = None
    if judge is not None:
        score = {"float32": judge(encoder.in_int8(None)), "int8": judge(int8_session(encoder))}
    return encoder, {"images": 0, "sqnr_db": {}, "in_float": list(encoder.spec.int8.in_float), "score": score}


def accuracy_findings(int8: Mapping[str, Any] | None, *, max_loss: float | None) -> Iterator[Finding]:
    """A warning where a head loses more than 0.01 of accuracy in int8, and no ``max_loss`` was set.

    ``int8``: what :func:`in_precision` says of it.
    """
    score = None if int8 is None else int8["score"]
    if score is None or max_loss is not None:
        return
    # Rounded: a difference of two shares of the same images is not exact in floats.
    if round(score["float32"] - score["int8"], 9) > _LOSS_TO_SAY:
        accuracies = f"{score['float32']:.1%} in float32 to {score['int8']:.1%} in int8"
        message = (
            f"the head's accuracy falls from {accuracies}: export in fp32, or bound the loss with"
            " --max-accuracy-loss"
        )
        yield warning("int8-worse", "encoder.onnx", message)
