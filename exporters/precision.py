"""In which precision an encoder is exported, and what that does to it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
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


def int8_against_fp32(
    encoder: Encoder, file: Path, *, on: str, seed: int, progress: Progress
) -> dict[str, Any]:
    """How long an encoder's int8 ``file`` takes relative to fp32, timed in turn on a target.

    Keys: ``what``, ``ratio``: {``value``, ``ci95``, ``n``}, ``fp32_ms``, ``int8_ms`` (medians), ``on``,
    ``machine``. Raises as :func:`privynet.device_profiles.compare` does.
    """
    from ..device_profiles import compare
    from .export import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "fp32.onnx"
        write_onnx(encoder.in_int8(None), plain, seed=seed)
        found = compare(file, plain, on=on, sessions=3, min_seconds=1.0, seed=seed, progress=progress)
    return {
        "what": "latency of int8 relative to fp32",
        "ratio": found["ratio"],
        "int8_ms": found["latency_ms"]["median"],
        "fp32_ms": found["other"]["latency_ms"]["median"],
        "on": on,
        "machine": found["machine"],
    }


def slower_finding(measured: Mapping[str, Any]) -> dict[str, str] | None:
    """A warning where int8 was measured to take longer."""
    ratio = measured["ratio"]
    low, high = ratio["ci95"]
    if low <= 1:
        return None
    message = (
        f"int8 takes {ratio['value']:.2f} ({low:.2f}..{high:.2f}) times as long as fp32 on {measured['on']}:"
        " export in fp32 for it"
    )
    return {"code": "int8-slower", "severity": "warning", "file": "encoder.onnx", "message": message}
