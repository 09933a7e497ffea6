"""What a path on the command line stands for: a run, a spec or an artifact."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..encoders import EncoderSpec
    from ..leakage import AuditSubject


def open_subject(
    subject: Path,
    *,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | None = None,
    allowed_code: Collection[str] = (),
) -> AuditSubject:
    """The encoder of a run or a spec in torch; of an artifact the exported file itself.

    An artifact's encoder is also rebuilt from its spec, for attackers that hold the weights; where that
    cannot be done, ``reasons`` says why. Raises ``InputError`` when ``subject`` is none of them, its weights
    are missing, or given and not the right ones, and ``NegativeResult`` when an artifact fails its check.
    """
    from ..artifacts import Artifact, looks_like_artifact
    from ..exporters.shipped_projection import shipped_projection
    from ..leakage import AuditSubject

    spec = read_spec(subject)
    artifact = Artifact.open(subject) if looks_like_artifact(subject) else None
    session = artifact.session() if artifact else None
    shipped = shipped_projection(artifact.model, spec) if artifact else None
    opened = AuditSubject.of_spec(
        spec,
        encoder=session,
        weights=weights,
        adapted_weights=adapted_weights,
        projection_weights=projection_weights or shipped,
        allowed_code=allowed_code,
    )
    if opened.torch_encoder is None and (weights or adapted_weights or projection_weights):
        raise InputError(
            opened.why_unknown("weights"), hint="give the files that the artifact was made from, or none"
        )
    return opened


def read_spec(subject: Path) -> EncoderSpec:
    """The spec in a run, a file or an artifact."""
    from ..artifacts import Artifact, looks_like_artifact
    from ..encoders import EncoderSpec
    from ..exporters.export import read_subject

    if looks_like_artifact(subject):
        return EncoderSpec.from_document(Artifact.open(subject).spec, source=str(subject / "encoder.json"))
    if not subject.exists():
        raise InputError(f"{subject} does not exist", hint="give a run, an encoder.json or an artifact")
    spec, _ = read_subject(subject)
    return spec


@contextmanager
def model_of(subject: Path) -> Iterator[Path]:
    """The ONNX file of an artifact, there as long as the context lasts; of another file, that file."""
    from ..artifacts import Artifact, looks_like_artifact

    if subject.is_dir() or looks_like_artifact(subject):
        artifact = Artifact.open(subject)
        yield artifact.model
    else:
        yield subject


def default_audit_folder(subject: Path) -> Path:
    """Where an audit is written: inside a run, beside a spec or an artifact."""
    from ..artifacts import looks_like_artifact

    if subject.name in ("", ".."):
        subject = subject.resolve()
    if subject.is_dir() and not looks_like_artifact(subject):
        return subject / "audit"
    return subject.with_name(f"{subject.name.removesuffix('.json').removesuffix('.zip')}-audit")
