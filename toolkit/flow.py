"""What needs more than one room: search with bench and report, audit."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, unknown
from ..progress import SILENT, Progress
from .benching import bench_run
from .subjects import default_audit_folder, open_subject

if TYPE_CHECKING:
    from ..data import DataSet
    from ..leakage import Attack, AuditSubject


def search_and_report(
    *, device: str, out: Path, bench: bool = True, progress: Progress = SILENT, **options: Any
) -> dict[str, Any]:
    """``privynet.search.search``, then the chosen encoder's latency on this host, then ``RUN/report.html``.

    ``options`` are those of ``search``; ``bench=False`` measures nothing. The result is the search's, with
    ``bench`` (``None`` where nothing was measured) and ``report``.
    """
    from ..artifacts import RunFolder, file_digest, read_document, write_document
    from ..search import search
    from .report import write_report

    result = search(device=device, out=out, progress=progress, **options)
    run = RunFolder.open(out)
    measured = None
    if bench and result["encoder"] is not None:
        measured = read_document(run.bench, "bench") if run.bench.exists() else None
        if measured is None or measured["model_sha256"] != file_digest(run.export):
            measured = bench_run(run, device, result, progress=progress)
            write_document(run.bench, "bench", measured)
    write_report(run)
    return {**result, "bench": measured, "report": str(run.report)}


def resolve_limits(limits: Mapping[str, float], device: str) -> dict[str, Any]:
    """Every limit of a search, {metric: {limit, source}}: the user's, the profile's, or the default."""
    from ..device_profiles import load_profile
    from ..search import Limits

    document: dict[str, Any] = Limits.resolve(limits, load_profile(device)).document()
    return document


def audit_subject(
    subject: Path,
    *,
    data: str,
    out: Path | None = None,
    attacks: Sequence[str] = (),
    attributes: Sequence[str] = (),
    auxiliary: str | None = None,
    images: bool = True,
    image_size: int = 64,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | None = None,
    allowed_code: Collection[str] = (),
    force: bool = False,
    seed: int = 0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
    **options: Any,
) -> dict[str, Any]:
    """``privynet.leakage.audit`` of a run's, spec's or artifact's encoder, kept in ``out`` with a report.

    ``attacks``: names (default: all that can run); ``attributes``: those of the data to predict (default:
    all); ``options`` are the others of ``audit``. The same audit on its own ``out`` goes on after the last
    finished attack; a finished one is read. The result is the audit's document, with ``audit`` and
    ``report``, the paths. Raises ``InputError`` for what is unknown, for an attack that cannot run, and when
    ``out`` holds another audit and ``force`` is not given.
    """
    from ..artifacts import AuditFolder, read_document, write_document
    from ..data import open_data
    from ..leakage import FolderStore, audit, audit_splits
    from .audit_report import write_audit_report

    chosen = _attacks(attacks)
    opened = open_subject(
        subject,
        weights=weights,
        adapted_weights=adapted_weights,
        projection_weights=projection_weights,
        allowed_code=allowed_code,
    )
    for attack in chosen or ():
        _check_can_run(attack, opened)
    source = open_data(data, image_size=image_size, progress=progress)
    foreign = open_data(auxiliary, image_size=image_size, progress=progress) if auxiliary else None
    predicted = _attributes(attributes, source)
    settings = {
        "encoder": opened.encoder.digest,
        "model": _model_digest(subject),
        "weights": opened.torch_encoder is not None,
        "data": source.digest,
        "image size": source.reference_size,
        "auxiliary": foreign.digest if foreign else None,
        "attacks": [attack.name for attack in chosen] if chosen else None,
        "attributes": list(predicted),
        "images": images,
        "seed": seed,
        **options,
    }
    audit_splits(
        source,
        attributes=predicted,
        **{name: options[name] for name in ("split", "pairs", "test_images") if name in options},
    )
    path = out or default_audit_folder(subject)
    was_there = path.exists()
    folder = AuditFolder.start(path, settings, force=force)
    if not folder.result.exists():
        try:
            result = audit(
                opened,
                data=source,
                attacks=chosen,
                attributes=predicted,
                auxiliary=foreign,
                images=images,
                store=FolderStore(folder),
                seed=seed,
                accelerator=accelerator,
                progress=progress,
                **options,
            ).document()
        except InputError:
            # Finished attacks are hours of work; without any there is nothing to keep.
            if not was_there and not any((path / "attacks").iterdir()):
                shutil.rmtree(path)
            raise
        inputs = {**result["inputs"], "model": settings["model"], "auxiliary_digest": settings["auxiliary"]}
        found = {name: value for name, value in inputs.items() if value is not None}
        write_document(folder.result, "audit", {**result, "inputs": found}, private=True)
    report = write_audit_report(folder)
    return {**read_document(folder.result, "audit"), "audit": str(folder.path), "report": str(report)}


def _attacks(names: Sequence[str]) -> list[Attack] | None:
    """The attacks with these names, each once; ``None`` for no names."""
    from ..leakage import ATTACKS

    known = {attack.name: attack for attack in ATTACKS}
    for name in names:
        if name not in known:
            raise unknown("attack", name, known)
    return [known[name] for name in dict.fromkeys(names)] or None


def _check_can_run(attack: Attack, subject: AuditSubject) -> None:
    """Raise ``InputError`` when the subject lacks what the attack must know, before anything is loaded."""
    from ..leakage import KNOWLEDGE

    rebuilt = subject.torch_encoder is not None
    missing = {name for name in ("weights", "backbone", "family") if not rebuilt}
    missing |= set() if subject.encoder.noise_std else {"captures"}
    missing |= set() if subject.backbone else {"backbone"}
    for name in attack.knows:
        if name in missing:
            nothing_to_give = rebuilt or name == "captures"
            hint = "leave it out" if nothing_to_give else "give the backbone's weights with --weights"
            raise InputError(
                f"{attack.name} cannot run: it needs to know {KNOWLEDGE[name]}, but "
                f"{subject.why_unknown(name)}",
                hint=hint,
            )


def _attributes(names: Sequence[str], source: DataSet) -> tuple[str, ...]:
    """The attributes of the data with these names, each once; all for no names."""
    for name in names:
        if not source.attributes:
            raise InputError(
                f"{source.name} has no attributes, {name!r} was asked for",
                hint="folder:PATH takes them from attributes.csv, npz:PATH from arrays attribute_NAME",
            )
        if name not in source.attributes:
            raise unknown("attribute", name, source.attributes)
    return tuple(dict.fromkeys(names)) or tuple(source.attributes)


def _model_digest(subject: Path) -> str | None:
    """The SHA-256 of an artifact's exported file, which is what is attacked then."""
    from ..artifacts import Artifact, looks_like_artifact

    if not looks_like_artifact(subject):
        return None
    return Artifact.open(subject).manifest.files["encoder.onnx"].sha256
