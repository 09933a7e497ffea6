"""What the encoder does on the target itself: whether it sends what it must, how fast int8 is there."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import Payload
from ..errors import NegativeResult
from ..progress import SILENT, Progress
from .agreement import Agreement
from .findings import Finding, warning
from .selftest import Rows, selftest_agreement, selftest_inputs

if TYPE_CHECKING:
    from ..encoders import Encoder


def measured_there(
    encoder: Encoder, file: Path, rows: Rows, *, on: str, seed: int, progress: Progress = SILENT
) -> list[dict[str, Any]]:
    """What a manifest says of an encoder's ``file`` on a target: its self-test's ``rows``, and int8's speed.

    Of the target it tells the kind (``local``, ``ssh``, ``adb``) and the hardware: who gets the artifact need
    not learn users, hosts and serial numbers. Raises :class:`NegativeResult` where it sends something else
    there, and else as :func:`privynet.device_profiles.bench` does.
    """
    in_int8 = encoder.spec.int8 is not None
    found = selftest_there(file, rows, encoder.payload, in_int8=in_int8, on=on)
    if found.fault is not None:
        raise NegativeResult(found.fault, hint="nothing was written; update onnxruntime there, or report it")
    timed = [_int8_against_fp32(encoder, file, on=on, seed=seed, progress=progress)] if in_int8 else []
    return [_shipped(one) for one in (found.document, *timed)]


_SHIPPED = ("processor", "architecture", "onnxruntime", "threads")


def _shipped(document: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement without what names somebody's machine."""
    machine = document["machine"]
    told = {key: machine[key] for key in _SHIPPED if machine.get(key) is not None}
    if machine.get("memory_mb") is not None:
        told["memory_mb"] = round(machine["memory_mb"])
    return {**document, "on": document["on"].partition("://")[0], "machine": told}


@dataclass(frozen=True)
class SelfTestThere:
    """A self-test's outcome on a target."""

    agreement: Agreement
    on: str
    machine: dict[str, Any]

    @property
    def document(self) -> dict[str, Any]:
        """``max_abs_error`` in units of the features, ``share_off`` of a payload's integers, ``noise``
        relative to the outputs, ``on`` as the user wrote it, ``machine``. Errors are null
        where another shape or what is not finite was sent: JSON has no infinity."""
        found = self.agreement
        return {
            "what": "self-test on the target",
            "max_abs_error": _finite(found.max_abs_error),
            "share_off": found.share_off,
            "noise": _finite(found.noise),
            "on": self.on,
            "machine": self.machine,
        }

    @property
    def fault(self) -> str | None:
        """Why it does not hold."""
        return None if self.agreement.holds else f"self-test on {self.on} is off by {self.agreement}"


def _finite(error: float) -> float | None:
    return error if math.isfinite(error) else None


def selftest_there(model: Path, rows: Rows, payload: Payload, *, in_int8: bool, on: str) -> SelfTestThere:
    """Run an encoder's file on a target, and compare what it sends with the self-test's ``rows``.

    Raises as :func:`privynet.device_profiles.bench` does.
    """
    from ..device_profiles import open_target, replay

    with open_target(on) as target:
        replayed = replay(model, selftest_inputs(rows), target=target)
    found = selftest_agreement(rows, replayed.output, payload, in_int8=in_int8)
    return SelfTestThere(found, on, replayed.machine)


def _int8_against_fp32(
    encoder: Encoder, file: Path, *, on: str, seed: int, progress: Progress
) -> dict[str, Any]:
    """How long an encoder's int8 ``file`` takes relative to fp32, timed in turn on a target.

    Keys: ``what``, ``ratio``: {``value``, ``ci95``, ``n``}, ``fp32_ms``, ``int8_ms`` (medians), ``on``,
    ``machine``.
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


def timing_findings(measured: Sequence[Mapping[str, Any]], *, in_int8: bool) -> Iterator[Finding]:
    """Warnings where int8 was measured to take longer, or not timed at all."""
    timed = [one for one in measured if "ratio" in one]
    if in_int8 and not timed:
        message = "int8 was not timed beside fp32: name the target with --on"
        yield warning("int8-not-timed", "encoder.onnx", message)
    for one in timed:
        low, high = one["ratio"]["ci95"]
        if low > 1:
            times = f"{one['ratio']['value']:.2f} ({low:.2f}..{high:.2f}) times as long as fp32"
            message = f"int8 takes {times} on the target: export in fp32 for it"
            yield warning("int8-slower", "encoder.onnx", message)
