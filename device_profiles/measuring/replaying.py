"""What a model gives on a target for the inputs that it is fed: nothing is timed."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ..targets import Target
from .sessions import AGENT, SILENCE_SECONDS, garbage, run_agent


@dataclass(frozen=True)
class Replayed:
    """A model's first output (n, ...) for n rows of inputs, and the machine that computed it."""

    output: NDArray[Any]
    machine: dict[str, Any]


class _Result(BaseModel):
    dtype: Literal["<f4", "|u1"]
    shape: list[int]
    values: str
    machine: dict[str, Any]


def replay(
    model: Path,
    inputs: Mapping[str, NDArray[Any]],
    *,
    target: Target,
    silence_seconds: float = SILENCE_SECONDS,
) -> Replayed:
    """Run an ONNX ``model`` of batch 1 on the target, row by row of ``inputs``, each (n, ...) by name.

    Its output is float32 or uint8. Raises as :func:`run_session` does.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs.npz"
        np.savez(file, allow_pickle=False, **dict(inputs))
        python = target.python  # says what is missing before anything is copied
        command = [*python, target.put(AGENT), "--model", target.put(model), "--replay", target.put(file)]
        result = run_agent(command, _Result, target, silence_seconds)
    try:
        data = base64.b64decode(result.values, validate=True)
        output = np.frombuffer(data, result.dtype).reshape(result.shape)
    except ValueError:
        raise garbage(f"{len(result.values)} characters for {result.dtype} {result.shape}") from None
    return Replayed(output, result.machine)
