"""The last word on the best candidates: built, exported, and attacked once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import RunFolder, replace_file
from ..device_profiles import DeviceProfile, LatencyPrediction
from ..encoders import Encoder, make_encoder
from ..exporters import write_onnx
from ..leakage import Leakage
from ..progress import SILENT, Progress
from .candidates import Judge
from .limits import Limits
from .study import TrialRecord, privacy_metrics

BUDGET = 4.0
"""The attack has this many times the seconds of a trial, and another seed."""

_SHOWN = 4


@dataclass(frozen=True)
class Certified:
    """A candidate that is inside every limit after it was built and attacked again."""

    record: TrialRecord
    encoder: Encoder
    leakage: Leakage
    strongest: dict[str, Any]
    """For each measure, the stronger of the trial's attack and the last one, as in an audit."""
    metrics: dict[str, float]
    latency: LatencyPrediction
    tried: int
    """How many candidates were certified until this one held."""

    def write(self, run: RunFolder, originals: NDArray[np.uint8] | None) -> None:
        """Write the spec and, where ``originals`` are given, some of them beside what was rebuilt."""
        self.encoder.spec.write(run.spec)
        if originals is not None:
            with replace_file(run.images, private=True) as temporary:
                np.savez(temporary, allow_pickle=False, **_pick_images(originals, self.leakage))


def certify(
    run: RunFolder,
    records: Sequence[TrialRecord],
    judge: Judge,
    profile: DeviceProfile,
    limits: Limits,
    *,
    progress: Progress = SILENT,
) -> Certified | None:
    """The most accurate feasible candidate that is still feasible when looked at more closely.

    Each is built with its weights and exported (parity with torch checked; the file's true size counts as
    ``storage_kb``), and attacked with another seed and ``BUDGET`` times the seconds; the stronger of the two
    attacks counts. None where no candidate holds.
    """
    distinct = {record.candidate: record for record in records if record.feasible}
    best = sorted(distinct.values(), key=lambda record: (-record.accuracy, record.metrics["r2"]))
    with progress.task("certify", len(best)) as task:
        for tried, record in enumerate(best, 1):
            candidate = record.candidate
            channels = judge.channels(candidate, progress=progress)
            splitter = judge.space.splitters[candidate.backbone, candidate.input_size]
            encoder = make_encoder(splitter, cut=candidate.cut, channels=channels)
            written = write_onnx(encoder, run.export)
            leakage = judge.attack_again(
                candidate, channels, budget_s=BUDGET * judge.budget.attack_s, progress=progress
            )
            strongest = _stronger(record.leakage or {}, leakage.document())
            metrics = {**record.metrics, "storage_kb": written["bytes"] / 1024}
            metrics.update(privacy_metrics({"strongest": strongest}))
            task.advance(note=candidate.cut)
            if not limits.violated(metrics):
                latency = profile.predict_latency_ms(encoder.costs)
                return Certified(record, encoder, leakage, strongest, metrics, latency, tried)
    # An earlier, shorter run of this search may have chosen one that no longer holds.
    for left in (run.export, run.spec, run.images):
        left.unlink(missing_ok=True)
    return None


def _stronger(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
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
