"""The containers that an encoder can ship in beside ``encoder.onnx``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ...errors import InputError, NegativeResult, unknown
from ..agreement import INT8_NOISE, compare
from .coreml import write_coreml
from .executorch import write_executorch
from .litert import write_litert
from .ort import write_ort
from .source import Send, Source, quietly


@dataclass(frozen=True)
class Format:
    """How one container is written."""

    write: Callable[[Source, Path], Send | None]
    """Writes into a folder, and gives what runs the file here, or ``None`` where nothing can."""
    packages: tuple[str, ...] = ()
    """The packages of its converter, which the extra of the format's name installs."""
    modules: tuple[str, ...] = ()
    """What is imported of them."""
    float_only: bool = True
    """Whether its converter starts from the float32 network instead of ``encoder.onnx``."""

    @property
    def installed(self) -> bool:
        """Whether its converter is here."""
        return all(_importable(module) for module in self.modules)


FORMATS = {
    "onnx": Format(lambda source, folder: None, float_only=False),
    "ort": Format(write_ort, float_only=False),
    "executorch": Format(write_executorch, ("executorch",), ("executorch.exir",)),
    "litert": Format(write_litert, ("litert-torch", "ai-edge-litert"), ("litert_torch", "ai_edge_litert")),
    "coreml": Format(write_coreml, ("coremltools",), ("coremltools",)),
}
NOT_COMPARED = {"encoder.mlpackage.zip", "encoder.pte", "encoder.safetensors", "encoder.tflite"}
"""Members that hold the encoder, and that are compared with it when they are written alone."""


def check_formats(names: Iterable[str], *, precision: str = "fp32") -> list[str]:
    """The formats to write beside ``encoder.onnx``, sorted, each once.

    Raises ``InputError`` for a format that does not exist, whose converter is not installed, or that has no
    such precision.
    """
    wanted = sorted({*names} - {"onnx"})
    for name in wanted:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
        form = FORMATS[name]
        if form.float_only and precision != "fp32":
            raise InputError(
                f"format {name} is converted from the float32 network, not from {precision}",
                hint=f"leave --format {name} or --precision {precision} out",
            )
        if not form.installed:
            raise InputError(
                f"format {name} needs a converter that is not installed",
                hint=f"pip install 'privynet[{name}]'",
            )
    return wanted


def write_formats(
    names: Collection[str], source: Source, folder: Path
) -> dict[str, dict[str, float] | Literal["not_run"]]:
    """Write the encoder into ``folder`` in each of the formats, and compare them with ``encoder.onnx``.

    Returns each format's ``max_abs_error`` and ``max_abs_output``, or ``"not_run"`` where its runtime does
    not run here. Raises ``NegativeResult`` where a file gives other values than ``encoder.onnx``.
    """
    found: dict[str, dict[str, float] | Literal["not_run"]] = {}
    for name in names:
        with quietly():
            send = FORMATS[name].write(source, folder)
        found[name] = "not_run" if send is None else _parity(name, send, source)
    return found


def converters(names: Iterable[str]) -> dict[str, str]:
    """The versions of the converters' packages."""
    return {package: version(package) for name in names for package in FORMATS[name].packages}


def _parity(name: str, send: Send, source: Source) -> dict[str, float]:
    encoder = source.encoder
    found = compare(
        send(source.images, source.noise),
        source.wanted,
        encoder.payload,
        # What a container sums in another order, integers after it round to the other side now and then.
        allowed_noise=INT8_NOISE if encoder.spec.int8 is not None else 0.0,
    )
    if not found.holds:
        raise NegativeResult(
            f"format {name} differs from encoder.onnx by {found}",
            hint=f"nothing was written; leave --format {name} out",
        )
    return {"max_abs_error": found.max_abs_error, "max_abs_output": found.max_abs_output}


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
