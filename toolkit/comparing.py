"""Two encoders compared on a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..progress import SILENT, Progress
from .subjects import model_of


def compare_subjects(
    subject: Path,
    other: Path,
    *,
    on: str = "local",
    threads: int = 1,
    sessions: int = 3,
    affinity: Sequence[int] | None = None,
    python: str | None = None,
    accept_new_host_key: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """``privynet.device_profiles.compare`` of two artifacts' encoders or ONNX files, on any target."""
    from ..device_profiles import compare

    with model_of(subject) as first, model_of(other) as second:
        compared = compare(
            first,
            second,
            on=on,
            threads=threads,
            sessions=sessions,
            affinity=affinity,
            python=python,
            accept_new_host_key=accept_new_host_key,
            names=(str(subject), str(other)),
            seed=seed,
            progress=progress,
        )
    return {
        **compared,
        "predicted_ms": None,
        "inputs": {"model": compared["model_sha256"], "other": compared["other"]["model_sha256"]},
    }
