"""The last word on the best candidates: built, exported, and attacked once more."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import OrtEncoder, RunFolder, read_document, replace_file, write_document
from ..device_profiles import DeviceProfile, LatencyPrediction
from ..encoders import Encoder, EncoderSpec, make_encoder, write_encoder
from ..exporters import write_onnx
from ..leakage import Leakage
from ..progress import SILENT, Progress
from .candidates import Judge
from .features import write_array
from .limits import Limits
from .space import Candidate
from .study import TrialRecord, privacy_metrics

BUDGET = 4.0
"""The attack has this many times the seconds of a trial, and another seed."""

_KIND = "certification"
_ATTACKED = ("attack-train", "attack-val", "select")
_SHOWN = 4


@dataclass(frozen=True)
class Certified:
    """A candidate that is inside every limit after it was built and attacked again."""

    record: TrialRecord
    encoder: Encoder
    leakage: Mapping[str, Any]
    """The document of the attack on the exported encoder."""
    strongest: Mapping[str, Any]
    """For each measure, the stronger of the trial's attack and the last one, as in an audit."""
    metrics: dict[str, float]
    latency: LatencyPrediction


@dataclass(frozen=True)
class Outcome:
    """What certification found; the records of ``rejected`` hold the metrics that were measured in it."""

    chosen: Certified | None
    rejected: tuple[TrialRecord, ...]


def certify(
    run: RunFolder,
    records: Sequence[TrialRecord],
    judge: Judge,
    profile: DeviceProfile,
    limits: Limits,
    *,
    images: bool,
    progress: Progress = SILENT,
) -> Outcome:
    """Choose the most accurate feasible candidate that is still feasible when looked at more closely.

    Each is built with its weights and exported (parity with torch checked; the file's true size counts as
    ``storage_kb``). What the exported file gives, in float32, is attacked with another seed and ``BUDGET``
    times the seconds; the stronger of the two attacks counts. Finished attacks are kept in the run folder and
    not repeated. Of the one that holds, the spec, the file and, with ``images``, some originals beside what
    was rebuilt are written; where none holds, those of an earlier, shorter search are removed.
    """
    distinct = {record.candidate: record for record in records if record.feasible}
    best = sorted(distinct.values(), key=lambda record: (-record.accuracy, record.metrics["r2"]))
    rejected: list[TrialRecord] = []
    # It takes its final name when it is chosen.
    exported = run.export.with_name(f".{run.export.name}")
    try:
        with progress.task("certify", len(best)) as task:
            for record in best:
                kept = _Kept.of(run, record.candidate)
                encoder = _build(judge, record.candidate, kept, progress)
                written = write_onnx(encoder, exported)
                if not kept.fits(encoder):
                    leakage = _attack(run, judge, encoder, exported, progress)
                    kept.write(encoder, leakage, judge.originals() if images else None)
                document = kept.leakage()
                strongest = _stronger(record.leakage or {}, document)
                metrics = {**record.metrics, "storage_kb": written["bytes"] / 1024}
                metrics.update(privacy_metrics({"strongest": strongest}))
                violated = limits.violated(metrics)
                task.advance(note=record.candidate.cut)
                if not violated:
                    exported.replace(run.export)
                    write_encoder(encoder, run.spec)
                    if images:
                        kept.copy_images(run)
                    latency = profile.predict_latency_ms(encoder.costs)
                    chosen = Certified(record, encoder, document, strongest, metrics, latency)
                    return Outcome(chosen, tuple(rejected))
                rejected.append(
                    replace(
                        record,
                        metrics=metrics,
                        violated=tuple(violated),
                        violation=limits.total_violation(metrics),
                    )
                )
    finally:
        exported.unlink(missing_ok=True)
    for left in (run.export, run.spec, run.images):
        left.unlink(missing_ok=True)
    return Outcome(None, tuple(rejected))


@dataclass(frozen=True)
class _Kept:
    """A finished certification in the run folder: its document, and some images."""

    document: Path
    images: Path

    @classmethod
    def of(cls, run: RunFolder, candidate: Candidate) -> _Kept:
        folder = run.path / "certifications"
        folder.mkdir(mode=0o700, exist_ok=True)
        text = json.dumps(candidate.document(), sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return cls(folder / f"{name}.json", folder / f"{name}.npz")

    def spec(self) -> EncoderSpec | None:
        """The spec of the encoder that was attacked, where one was."""
        if not self.document.exists():
            return None
        spec = read_document(self.document, _KIND)["spec"]
        return EncoderSpec.from_document(spec, source=str(self.document))

    def fits(self, encoder: Encoder) -> bool:
        """Whether it is this very encoder that was attacked."""
        spec = self.spec()
        return spec is not None and spec.digest == encoder.digest

    def leakage(self) -> dict[str, Any]:
        """The attack's document."""
        leakage: dict[str, Any] = read_document(self.document, _KIND)["leakage"]
        return leakage

    def write(self, encoder: Encoder, leakage: Leakage, originals: NDArray[np.uint8] | None) -> None:
        """Keep an attack's outcome; the document comes last, so that with it all is there."""
        if originals is not None:
            with replace_file(self.images, private=True) as temporary:
                np.savez(temporary, allow_pickle=False, **_pick_images(originals, leakage))
        body = {"spec": encoder.spec.document(), "leakage": leakage.document()}
        write_document(self.document, _KIND, body, private=True)

    def copy_images(self, run: RunFolder) -> None:
        """Give the run the images."""
        with replace_file(run.images, private=True) as temporary:
            shutil.copyfile(self.images, temporary)


def _build(judge: Judge, candidate: Candidate, kept: _Kept, progress: Progress) -> Encoder:
    """The candidate's encoder; with the salt, and so the digest, of one that was attacked before."""
    before = kept.spec()
    return make_encoder(
        judge.space.splitters[candidate.backbone, candidate.input_size],
        cut=candidate.cut,
        channels=judge.channels(candidate, progress=progress),
        salt=before.salt if before else None,
    )


def _attack(run: RunFolder, judge: Judge, encoder: Encoder, exported: Path, progress: Progress) -> Leakage:
    """Attack what the exported file gives for the images, with another seed and a larger budget."""
    import torch

    session = OrtEncoder.open(exported, digest=encoder.digest, threads=torch.get_num_threads())
    folder = run.cache / "exported"
    shutil.rmtree(folder, ignore_errors=True)  # of a search that was killed
    folder.mkdir(mode=0o700)
    try:
        features = {}
        for name in _ATTACKED:
            split, path = judge.store.splits[name], folder / f"{name}.npy"
            batches = (session.encode(batch) for batch in split.batches(encoder.input_size))
            with replace_file(path) as temporary, progress.task(f"encode {name}", len(split)) as task:
                shape = (len(split), *encoder.feature_shape)
                write_array(temporary, shape, np.float32, batches, task=task)
            features[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        budget_s = BUDGET * judge.budget.attack_s
        return judge.attack(features, budget_s=budget_s, seed=judge.seed + 1, progress=progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stronger(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Of two leakage documents, the higher score of each measure."""
    scores = [document["strongest"] for document in (one, other) if document]
    return {
        measure: max((s[measure] for s in scores), key=lambda score: score["value"]) for measure in scores[-1]
    }


def _pick_images(originals: NDArray[np.uint8], leakage: Leakage) -> dict[str, NDArray[Any]]:
    """The images that the attack rebuilt best, in the middle, and worst."""
    psnr_db = leakage.strongest.image_scores.psnr_db
    order = np.argsort(-psnr_db, kind="stable")
    middle = max(0, len(order) // 2 - _SHOWN // 2)
    chosen = np.unique(np.concatenate([order[:_SHOWN], order[middle : middle + _SHOWN], order[-_SHOWN:]]))
    chosen = chosen[np.argsort(-psnr_db[chosen], kind="stable")]
    return {
        "originals": originals[chosen],
        "reconstructions": leakage.reconstructions[chosen],
        "psnr_db": psnr_db[chosen],
    }
