"""What a path on the command line stands for: a run, a spec, an artifact or an ONNX file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..encoders import EncoderSpec
    from ..leakage import FeatureEncoder


def open_encoder(subject: Path, *, weights: str | None, allowed_code: Collection[str]) -> FeatureEncoder:
    """The encoder of a run or a spec in torch, of an artifact in ONNX Runtime.

    Raises ``InputError`` when ``subject`` is none of them and ``NegativeResult`` when an artifact fails its
    check.
    """
    from ..artifacts import Artifact
    from ..encoders import build_encoder

    if is_artifact(subject):
        return Artifact.open(subject).session()
    return build_encoder(read_spec(subject), weights=weights, allowed_code=allowed_code)


def read_spec(subject: Path) -> EncoderSpec:
    """The spec in a run, a file or an artifact."""
    from ..artifacts import Artifact, RunFolder
    from ..encoders import EncoderSpec

    if is_artifact(subject):
        return EncoderSpec.from_document(Artifact.open(subject).spec, source=str(subject / "encoder.json"))
    if not subject.is_dir():
        return EncoderSpec.read(subject)
    run = RunFolder.open(subject)
    if not run.spec.exists():
        raise InputError(f"run {subject} has no encoder", hint="finish the search, or loosen its limits")
    return EncoderSpec.read(run.spec)


def is_artifact(subject: Path) -> bool:
    """Whether ``subject`` is a folder with an artifact's manifest."""
    return (subject / "manifest.json").is_file()
