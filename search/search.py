"""The search: from a device, a data set and backbones to the encoder to ship."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import RunFolder, read_document, write_document
from ..data import DataSet, open_data
from ..device_profiles import DeviceProfile, load_profile
from ..encoders import BackboneName, Splitter, load_backbone, parse_backbone
from ..errors import InputError, unknown
from ..progress import SILENT, Progress
from .candidates import Budget, Judge, check_classes, search_splits
from .certification import certify
from .features import FeatureStore
from .limits import Limits, cost_metrics
from .opening import backbone_identity, data_identity, device_identity, open_run, read_secret
from .result import RESULT_KIND, result_document
from .space import Candidate, Space, input_sizes
from .study import SAMPLERS, SearchStudy, TrialRecord, privacy_metrics

if TYPE_CHECKING:
    import optuna

MIN_TRAIN_IMAGES = 100
MIN_ATTACK_PAIRS = 50
MIN_IMAGE_SIZE = 16
"""Pixels; smaller images have no structure for the attacks and for SSIM's window."""

_MAX_SEED = 2**31 - 1


def search(
    *,
    device: str,
    data: str,
    out: Path,
    backbones: Sequence[str | BackboneName] = ("bundled",),
    limits: Mapping[str, float] | None = None,
    trials: int = 40,
    timeout_s: float | None = None,
    sampler: str = "tpe",
    input_sizes: Sequence[int] = (),
    image_size: int = 64,
    train_images: int = 10_000,
    attack_pairs: int = 5_000,
    attack_budget_s: float = 30.0,
    seed: int = 0,
    accelerator: str = "auto",
    insecure_fixed_secret: bool = False,
    force: bool = False,
    images: bool = True,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Find the most accurate encoder within all limits and write it to ``out/encoder.json``.

    ``trials`` is the study's total, trials that end before training included; ``timeout_s`` ends it earlier.
    Interrupted, the same call goes on and loses at most the running trial. Utility and privacy loss are
    measured on ``select``; ``test`` is not touched. The best candidates are built, exported and attacked once
    more, longer, and the first that is still inside every limit is chosen. The result has the keys of the
    command line's ``--json``; where nothing is feasible its ``encoder`` is None and ``nearest`` is filled.

    Raises:
        InputError: an unknown device, data source, backbone, sampler or metric; numbers out of range; a class
            with fewer than two training images; an ``out`` that exists and is not this search's, or in which
            one is running.
    """
    started = time.perf_counter()
    _check_numbers(trials, timeout_s, train_images, attack_pairs, attack_budget_s, seed)
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    profile = load_profile(device)
    resolved = Limits.resolve(limits or {}, profile)
    names = [parse_backbone(name) if isinstance(name, str) else name for name in backbones]
    if not names:
        raise InputError("no backbone", hint="name at least one with --backbone")
    source = open_data(data, image_size=image_size, progress=progress)
    if source.reference_size < MIN_IMAGE_SIZE:
        raise InputError(
            f"images of {source.reference_size} pixels are too small",
            hint=f"allowed: {MIN_IMAGE_SIZE} or more",
        )
    budget = Budget(train_images=train_images, attack_pairs=attack_pairs, attack_s=attack_budget_s)
    splits = search_splits(source, budget)
    check_classes(source, splits["head-train"])
    space = _make_space(names, input_sizes, source, progress)
    identity = {
        **device_identity(profile),
        **data_identity(source),
        "backbones": [backbone_identity(name) for name in names],
        "weights_digests": [splitter.backbone.weights_digest for splitter in space.splitters.values()],
        "input_sizes": [size for _, size in space.splitters],
        "limits": resolved.document(),
        "budget": asdict(budget),
        "sampler": sampler,
        "seed": seed,
        "insecure_fixed_secret": insecure_fixed_secret,
        "images": images,
    }
    with open_run(out, identity, force=force) as run:
        study = SearchStudy(run.journal, resolved, sampler=sampler, seed=seed, trials=trials)
        judge = Judge(
            space,
            FeatureStore(run.cache, splits, source, accelerator=accelerator),
            budget=budget,
            secret=read_secret(run, insecure=insecure_fixed_secret),
            seed=seed,
            accelerator=accelerator,
        )
        finished = _finished_result(run, study, trials)
        if finished is not None:
            return finished
        _run_trials(study, space, judge, profile, trials=trials, timeout_s=timeout_s, progress=progress)
        records = study.records()
        outcome = certify(run, records, judge, profile, resolved, images=images, progress=progress)
        document = result_document(
            records,
            resolved,
            outcome=outcome,
            device=profile,
            backbones=[name.architecture for name in names],
            data=source,
            seconds=time.perf_counter() - started,
            seed=seed,
            inputs=identity,
        )
        write_document(run.result, RESULT_KIND, document)
    return document


def _check_numbers(
    trials: int,
    timeout_s: float | None,
    train_images: int,
    attack_pairs: int,
    attack_budget_s: float,
    seed: int,
) -> None:
    for name, value, least in (
        ("trials", trials, 1),
        ("training images", train_images, MIN_TRAIN_IMAGES),
        ("attack pairs", attack_pairs, MIN_ATTACK_PAIRS),
    ):
        if value < least:
            raise InputError(f"{value} {name} are too few", hint=f"allowed: {least} or more")
    for name, seconds in (("timeout", timeout_s), ("attack budget", attack_budget_s)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise InputError(
                f"{name} of {seconds:g} s is out of range", hint="allowed: more than zero seconds"
            )
    if not 0 <= seed <= _MAX_SEED:
        raise InputError(f"seed {seed} is out of range", hint=f"allowed: 0 to {_MAX_SEED}")


def _make_space(
    names: Sequence[BackboneName], sizes: Sequence[int], source: DataSet, progress: Progress
) -> Space:
    splitters: dict[tuple[int, int], Splitter] = {}
    with progress.task("backbones", len(names)) as task:
        for index, name in enumerate(names):
            backbone = load_backbone(name)
            for size in input_sizes(sizes, backbone.native_size, source.reference_size):
                splitters[index, size] = Splitter(backbone, size)
                # Listing them now finds a backbone without a cut before anything is written.
                _ = splitters[index, size].cuts
            task.advance(note=name.architecture)
    return Space(splitters)


def _finished_result(run: RunFolder, study: SearchStudy, trials: int) -> dict[str, Any] | None:
    """The result that the run already has, where no trial is left to do."""
    if not run.result.exists() or len(study.records()) < trials:
        return None
    return read_document(run.result, RESULT_KIND)


def _run_trials(
    study: SearchStudy,
    space: Space,
    judge: Judge,
    profile: DeviceProfile,
    *,
    trials: int,
    timeout_s: float | None,
    progress: Progress,
) -> None:
    started = time.perf_counter()
    records = {record.candidate: record for record in study.records()}
    done = len(study.records())
    with progress.task("trials", trials) as task:
        task.advance(min(done, trials), note=_best_note(records.values()))
        while done < trials and (timeout_s is None or time.perf_counter() - started < timeout_s):
            trial = study.ask()
            try:
                record = _run_trial(trial, study, space, judge, profile, records, progress)
            except Exception:
                # Left running, it would be the first thing that every resumed search runs into again.
                study.fail(trial)
                raise
            records[record.candidate] = record
            done += 1
            task.advance(note=_best_note(records.values()))


def _run_trial(
    trial: optuna.Trial,
    study: SearchStudy,
    space: Space,
    judge: Judge,
    profile: DeviceProfile,
    known: Mapping[Candidate, TrialRecord],
    progress: Progress,
) -> TrialRecord:
    candidate = space.suggest(trial)
    shape = space.shape(candidate)
    splitter = space.splitters[candidate.backbone, candidate.input_size]
    if candidate in known:
        return study.repeat(trial, known[candidate])
    # Costs depend on how many channels are kept and, next to branches, a little on which: the first ones
    # stand for all until the policy has chosen.
    metrics = cost_metrics(splitter.costs(candidate.cut, range(candidate.channels)), profile)
    if not study.limits.violated(metrics):
        channels = judge.channels(candidate, progress=progress)
        metrics = cost_metrics(splitter.costs(candidate.cut, channels), profile)
    if study.limits.violated(metrics):
        return study.prune(trial, candidate, shape, metrics)
    judgement = judge.judge(candidate, channels, progress=progress)
    leakage = judgement.leakage.document()
    return study.finish(
        trial,
        candidate,
        shape,
        {**metrics, **privacy_metrics(leakage)},
        utility=judgement.utility.document(),
        leakage=leakage,
        seconds=judgement.seconds,
    )


def _best_note(records: Iterable[TrialRecord]) -> str:
    feasible = [record for record in records if record.feasible]
    if not feasible:
        return "nothing feasible yet"
    best = max(feasible, key=lambda record: record.accuracy)
    return f"best {best.accuracy:.1%}, r2 {best.metrics['r2']:.2f}"
