"""The last word on the best candidates: built, exported, given heads anew, and attacked with all strength."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...artifacts import RunFolder, replace_file
from ...data import Score
from ...device_profiles import DeviceProfile, LatencyPrediction, graph_costs
from ...encoders import Encoder, write_encoder
from ...exporters import write_onnx
from ...exporters.exported import open_exported
from ...leakage import ATTACKS, AuditSubject, Leakage, View, attack_features, mean_image
from ...progress import SILENT, Progress
from ..characterisation.features import ArrayFile
from ..constraints import Limits, cost_metrics
from ..evaluation import PRIVACY_METRICS, Judge, TrialRecord, distinct
from .kept import KeptCertification

HEADS = 3
"""Trained with different seeds; the utility is their mean."""
STRONG_ATTACKS = ("ridge", "decoder-small", "decoder-residual", "decoder-unet", "likelihood-prior")
"""Those of the audit that come out strongest, with pairs alone and with the encoder's weights; where the
encoder adds noise, ``AVERAGING`` comes on top."""
AVERAGING = "averaging"

_ATTACKED = ("attack-train", "attack-val", "select")
_SPLITS = ("head-train", *_ATTACKED)
_CAPTURES = 8
"""Of one scene, that an attacker averages where the encoder adds noise."""
_SEED_OFFSET = 1
"""Another seed than the trials'."""


@dataclass(frozen=True)
class Certified:
    """A candidate as it is when built: ``utility`` and ``metrics`` are measured on the exported file.

    ``metrics``: privacy loss at the upper end of its interval, ``latency_ms`` at that of its prediction.
    ``heads``: each head's score.
    """

    record: TrialRecord
    encoder: Encoder = field(repr=False)
    utility: Score
    heads: tuple[float, ...]
    leakage: Mapping[str, Any] = field(repr=False)
    metrics: Mapping[str, float]
    violated: tuple[str, ...]
    violation: float
    """The sum of all normalised violations."""
    latency: LatencyPrediction

    def document(self) -> dict[str, Any]:
        """What was predicted for it, and what was found."""
        strongest = self.leakage["strongest"]
        return {
            "trial": self.record.number,
            **self.record.candidate.document(),
            "stage": self.record.stage,
            "predicted": {name: asdict(estimate) for name, estimate in self.record.estimates.items()},
            "utility": {**self.utility.document(), "heads": list(self.heads)},
            "privacy_loss": strongest,
            "metrics": dict(self.metrics),
            "violated": list(self.violated),
            "feasible": not self.violated,
        }


@dataclass(frozen=True)
class Outcome:
    """What certification found: every candidate that was built, and the one that was chosen."""

    certified: tuple[Certified, ...]

    @property
    def chosen(self) -> Certified | None:
        """The most accurate of those inside every limit, by the lower end of the accuracy's interval."""
        inside = [one for one in self.certified if not one.violated]
        return max(inside, key=lambda one: one.utility.ci95[0], default=None)


def certify(
    run: RunFolder,
    records: Sequence[TrialRecord],
    judge: Judge,
    profile: DeviceProfile,
    limits: Limits,
    *,
    count: int,
    images: bool,
    progress: Progress = SILENT,
) -> Outcome:
    """Build the ``count`` most promising candidates and look at them as closely as can be.

    Each is exported (parity with torch checked); its storage is that of the exported file. What the file
    gives is what heads are trained on, with ``HEADS`` seeds, and what ``STRONG_ATTACKS`` attack, each with a
    trial's seconds. It counts as inside the limits when it is at the upper end of every interval. Where none
    of them is, others are built until one is or none is left that could be (``_next``). What is finished is
    kept in the run folder and not repeated. Of the chosen one the spec, the file and, with ``images``, some
    originals beside what was rebuilt are written; where there is none, those of an earlier search are
    removed.
    """
    order = promising(records, limits)
    certified: list[Certified] = []
    with progress.task("certify", min(count, len(order))) as task:
        left = order[count:]
        for record in order[:count]:
            certified.append(
                _certify_one(run, record, judge, profile, limits, images=images, progress=progress)
            )
            task.advance(note=_note(certified[-1]))
        while left and all(one.violated for one in certified):
            record, hopeful = _next(left, certified, limits)
            left.remove(record)
            certified.append(
                _certify_one(run, record, judge, profile, limits, images=images, progress=progress)
            )
            task.advance(note=_note(certified[-1]))
            if not hopeful:
                break
    outcome = Outcome(tuple(certified))
    _write_chosen(run, outcome.chosen, images=images)
    return outcome


def _note(one: Certified) -> str:
    return f"{one.record.candidate.cut} {one.utility.value:.1%}"


def _next(
    left: Sequence[TrialRecord], certified: Sequence[Certified], limits: Limits
) -> tuple[TrialRecord, bool]:
    """The best candidate that holds if it leaks as much more than estimated as those certified at least did.

    Or, where none of them would, the one that is nearest to it, and False.
    """

    def violation(record: TrialRecord) -> float:
        expected = dict(record.metrics)
        for metric, estimate in record.estimates.items():
            if metric in PRIVACY_METRICS:
                shifts = [one.metrics[metric] - one.record.estimates[metric].value for one in certified]
                expected[metric] = estimate.value + min(shifts)
        return limits.total_violation(expected)

    hopeful = next((record for record in left if not violation(record)), None)
    return (hopeful, True) if hopeful is not None else (min(left, key=violation), False)


def promising(records: Sequence[TrialRecord], limits: Limits) -> list[TrialRecord]:
    """The candidates worth building: those inside the limits first, each group by accuracy.

    Those that break a limit only by the error of an estimate come after them.
    """

    def inside(record: TrialRecord) -> bool:
        values = {name: estimate.value for name, estimate in record.estimates.items()}
        return not limits.violated({**record.metrics, **values})

    candidates = [
        record for record in distinct(records) if record.evaluated and (record.feasible or inside(record))
    ]
    return sorted(candidates, key=lambda record: (not record.feasible, -record.accuracy, record.number))


def _certify_one(
    run: RunFolder,
    record: TrialRecord,
    judge: Judge,
    profile: DeviceProfile,
    limits: Limits,
    *,
    images: bool,
    progress: Progress,
) -> Certified:
    kept = KeptCertification.of(run, record)
    sending = judge.sending(record.candidate, progress=progress)
    encoder = judge.build(record.candidate, sending, salt=kept.salt())
    exported = run.export.with_name(f".{kept.document.stem}.onnx")
    try:
        written = write_onnx(encoder, exported)
        if not kept.fits(encoder):
            _examine(run, kept, encoder, exported, judge, images=images, progress=progress)
        exported.replace(kept.model)
    finally:
        exported.unlink(missing_ok=True)
    body = kept.read()
    strongest = body["leakage"]["strongest"]
    metrics = {**cost_metrics(graph_costs(kept.model), profile), "storage_kb": written["bytes"] / 1024}
    metrics |= {metric: _upper(strongest[metric]) for metric in PRIVACY_METRICS if metric in strongest}
    return Certified(
        record=record,
        encoder=encoder,
        utility=Score(body["utility"]["value"], tuple(body["utility"]["ci95"]), body["utility"]["n"]),
        heads=tuple(body["heads"]),
        leakage=body["leakage"],
        metrics=metrics,
        violated=tuple(limits.violated(metrics)),
        violation=limits.total_violation(metrics),
        latency=profile.predict_latency_ms(encoder.costs),
    )


def _upper(score: Mapping[str, Any]) -> float:
    return float(score["ci95"][1])


def _examine(
    run: RunFolder,
    kept: KeptCertification,
    encoder: Encoder,
    exported: Path,
    judge: Judge,
    *,
    images: bool,
    progress: Progress,
) -> None:
    """Train heads on what the exported file gives, attack it, and keep what was found."""
    import torch

    session = open_exported(encoder, exported, threads=torch.get_num_threads())
    folder = run.cache / f"exported-{kept.document.stem}"
    shutil.rmtree(folder, ignore_errors=True)  # of a search that was killed
    folder.mkdir(mode=0o700)

    def encode(name: str, captures: int) -> NDArray[np.float32]:
        """What the file gives for a split's images, as the mean over so many captures."""
        split, path = judge.store.splits[name], folder / f"{name}-{captures}.npy"
        noise = np.random.default_rng((judge.seed, captures, _SPLITS.index(name)))

        def batches() -> Iterator[NDArray[np.float32]]:
            for batch in split.batches(encoder.input_size):
                total = session.encode(batch, generator=noise)
                for _ in range(captures - 1):
                    total += session.encode(batch, generator=noise)
                yield total / np.float32(captures)

        shape = (len(split), *encoder.feature_shape)
        with (
            replace_file(path) as temporary,
            progress.task(f"encode {name}", len(split)) as task,
            ArrayFile(temporary, shape, np.float32) as array,
        ):
            for batch in batches():
                array.add(batch)
                task.advance(len(batch))
        mapped: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped

    try:
        features = {name: encode(name, 1) for name in _SPLITS}
        averaged = {name: encode(name, _CAPTURES) for name in _ATTACKED} if encoder.noise_std else None
        seeds = range(judge.seed + _SEED_OFFSET, judge.seed + _SEED_OFFSET + HEADS)
        hits = [judge.hits(features, seed=seed, progress=progress) for seed in seeds]
        leakage = _attack(encoder, features, averaged, judge, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    utility = Score.mean(np.mean(hits, axis=0), seed=judge.seed)
    originals = judge.store.images("select") if images else None
    kept.write(encoder, utility, [float(hit.mean()) for hit in hits], leakage, originals)


def _attack(
    encoder: Encoder,
    features: Mapping[str, NDArray[Any]],
    averaged: Mapping[str, NDArray[Any]] | None,
    judge: Judge,
    progress: Progress,
) -> Leakage:
    """The strong attacks on what the exported file gives; those that know the weights have torch's.

    ``averaged``: the same as means over ``_CAPTURES`` captures, where there is noise to average.
    """
    train, val, test = (judge.pairs(features, name) for name in _ATTACKED)
    captures = [judge.pairs(averaged, name) for name in _ATTACKED] if averaged else None
    names = (*STRONG_ATTACKS, AVERAGING) if averaged else STRONG_ATTACKS
    view = View(
        train.features,
        # Of other images than those observed: their own mean would be knowledge of them.
        mean_image(val.images),
        encoder.noise_std,
        pairs=(train, val),
        weights=AuditSubject(encoder, encoder).feature_map(train.image_size),
        captures=(captures[0], captures[1]) if captures else None,
    )
    return attack_features(
        view,
        test,
        attacks=[attack for attack in ATTACKS if attack.name in names],
        averaged=captures[2].features if captures else None,
        seed=judge.seed + _SEED_OFFSET,
        budget_s=judge.budget.attack_s,
        accelerator=judge.accelerator,
        progress=progress,
    )


def _write_chosen(run: RunFolder, chosen: Certified | None, *, images: bool) -> None:
    """Give the run the chosen encoder's files, or take those of an earlier one away."""
    for left in (run.export, run.spec, run.spec.with_suffix(".safetensors"), run.images):
        left.unlink(missing_ok=True)
    if chosen is None:
        return
    kept = KeptCertification.of(run, chosen.record)
    for source, target, private in (
        (kept.model, run.export, False),
        (kept.images, run.images, True),
    ):
        if source.exists() and (images or target != run.images):
            with replace_file(target, private=private) as temporary:
                shutil.copyfile(source, temporary)
    write_encoder(chosen.encoder, run.spec)
