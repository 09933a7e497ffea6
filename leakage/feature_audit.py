"""The feature audit: every attack that can be run on an encoder, its controls, and what else is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import DataSet, Split
from ..errors import InputError
from ..progress import SILENT, Progress
from .attack import Attack, attack_features
from .audit_steps import (
    attribute_entry,
    check_sizes,
    describe,
    pairs_curve,
    runnable,
    train_recogniser,
    unattacked,
    warnings,
)
from .auxiliary import dead_leaves
from .encoding import encode_pairs
from .knowledge import AuditSubject
from .pairs import Pairs
from .positive_control import control as run_control
from .positive_control import control_document
from .recognition import Recogniser
from .results import Leakage
from .storing import FolderStore

AUXILIARY_IMAGES = 2_000
LEAST_AUXILIARY_IMAGES = 100


@dataclass(frozen=True)
class AuditResult:
    """What the attacks recovered, how well each was able to, and what to be careful about.

    ``controls``: the attacks on the images themselves, ``None`` when not asked for. ``originals``: uint8
    (n, R, R, 3), the attacked images, ``None`` when not to be kept. ``details``: the document's other
    entries.
    """

    leakage: Leakage
    controls: Leakage | None
    originals: NDArray[np.uint8] | None = field(repr=False)
    details: Mapping[str, Any]

    @property
    def conclusive(self) -> bool:
        """False when the strongest attack failed its control: then low scores say nothing."""
        strongest = self.leakage.strongest.attack
        return self.controls is None or bool(control_document(strongest, self.controls)["passed"])

    def document(self) -> dict[str, Any]:
        """DESIGN's audit keys, with ``verdict`` ``measured`` or ``inconclusive``."""
        leakage = self.leakage.document()
        for attack in leakage["attacks"]:
            attack["control"] = (
                None if self.controls is None else control_document(attack["attack"], self.controls)
            )
        return {
            "verdict": "measured" if self.conclusive else "inconclusive",
            **leakage,
            **self.details,
            "warnings": [*self.details["warnings"], *self._failed_controls()],
        }

    def _failed_controls(self) -> list[str]:
        if self.controls is None:
            return ["no positive control was run: a low score may be the attack's fault"]
        found = []
        for result in self.controls.attacks:
            shown = control_document(result.attack, self.controls)
            if not shown["passed"]:
                found.append(
                    f"{result.attack} failed its positive control ({result.scores.psnr_db.value:.1f} dB of "
                    f"{shown['required_psnr_db']:g} dB): its low score says nothing"
                )
        return found


def audit(
    subject: AuditSubject,
    *,
    data: DataSet,
    split: str = "test",
    pairs: int = 10_000,
    test_images: int | None = 1000,
    budget_s: float = 120.0,
    attacks: Sequence[Attack] | None = None,
    attributes: Sequence[str] = (),
    control: bool = True,
    images: bool = True,
    auxiliary: DataSet | None = None,
    recogniser: Recogniser | None = None,
    captures: int = 16,
    store: FolderStore | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> AuditResult:
    """Attack an encoder with all that an attacker may know, and score on ``split``.

    Images are attacked at the data set's reference size. ``pairs``: at most so many training pairs of
    attack-train (and a fifth as many of attack-val); ``test_images``: at most so many images of ``split``
    (``None``: all). ``budget_s``: seconds for each attack. ``attacks``: those to run (default: all that can
    run with what is known of the subject). ``attributes``: private attributes to predict. ``control``: also
    attack the images themselves. ``auxiliary``: images of another domain (default: synthetic ones).
    ``recogniser``: the network that judges rebuilt images (default: trained here, on images of head-train).
    ``captures``: how often an encoder with noise sends one scene. ``images=False`` keeps neither originals
    nor reconstructions. ``store`` keeps what is finished; the same audit then goes on from there.

    Raises ``InputError`` for an unknown split or attribute, counts that are not positive, an attack that
    cannot run, and splits too small to attack.
    """
    splits = audit_splits(data, split=split, pairs=pairs, test_images=test_images, attributes=attributes)
    if captures < 1:
        raise InputError(f"{captures} captures", hint="needed: 1 or more")
    foreign = _auxiliary_images(auxiliary, data, seed)
    store = replace(store, images=images) if store else None
    noisy = subject.encoder.noise_std > 0
    encode = partial(_encode, subject, splits, data.reference_size, seed=seed, progress=progress)
    train, val, test = encode(captures=1)
    averaged = encode(captures=captures) if noisy and captures > 1 else None
    view = subject.view(train, val, auxiliary=foreign, captures=averaged[:2] if averaged else None)
    chosen, not_run = runnable(attacks, view, subject)
    # Before the attacks: what an attribute lacks is found within minutes, not hours.
    predicted = [
        attribute_entry(
            name,
            data,
            splits,
            (train, val, test),
            store=store,
            seed=seed,
            accelerator=accelerator,
            progress=progress,
        )
        for name in attributes
    ]
    if recogniser is None:
        recogniser = train_recogniser(
            data, store=store, seed=seed, accelerator=accelerator, progress=progress
        )
    run = partial(
        attack_features,
        recogniser=recogniser,
        channels=subject.spec.channels if subject.spec else None,
        seed=seed,
        budget_s=budget_s,
        accelerator=accelerator,
        progress=progress,
    )
    leakage = run(
        view, test, attacks=chosen, averaged=averaged[2].features if averaged else None, store=store
    )
    controls = None
    if control:
        controls = run_control(
            train,
            val,
            test,
            attacks=chosen,
            auxiliary=foreign,
            store=store.named("control") if store else None,
            seed=seed,
            budget_s=budget_s,
            accelerator=accelerator,
            progress=progress,
        )
    details = {
        "not_run": not_run,
        "pairs_curve": pairs_curve(view, test, leakage, run, store),
        "attributes": predicted,
        "recogniser": _recognition(recogniser, train, test, seed),
        **unattacked(subject, train, test, store=store, seed=seed, progress=progress),
        "encoder": describe(subject),
        "n": {name: len(part) for name, part in splits.items()},
        "captures": captures if noisy else 1,
        "auxiliary": auxiliary.name if auxiliary else "synthetic images (dead leaves)",
        "seed": seed,
        "budget_s": budget_s,
        "inputs": {
            "data": data.name,
            "data_digest": data.digest,
            "split": split,
            "encoder_digest": subject.encoder.digest,
        },
        "warnings": warnings(
            leakage, subject, pairs=len(train), image_size=data.reference_size, budget_s=budget_s
        ),
    }
    if store is not None and images:
        store.keep_originals(test.images)
    return AuditResult(leakage, controls, test.images if images else None, details)


def _encode(
    subject: AuditSubject,
    splits: Mapping[str, Split],
    image_size: int,
    *,
    captures: int,
    seed: int,
    progress: Progress,
) -> tuple[Pairs, Pairs, Pairs]:
    """Pairs of the train, val and test split; the same noise each time for a seed."""
    total = sum(map(len, splits.values()))
    note = f"encode {captures} times" if captures > 1 else "encode"
    with progress.task(note, total) as task:
        train, val, test = (
            encode_pairs(
                subject.encoder, part, image_size=image_size, captures=captures, seed=seed + place, task=task
            )
            for place, part in enumerate(splits.values())
        )
    return train, val, test


def audit_splits(
    data: DataSet,
    *,
    split: str = "test",
    pairs: int = 10_000,
    test_images: int | None = 1000,
    attributes: Sequence[str] = (),
) -> dict[str, Split]:
    """The images to attack with (``train``, ``val``) and to score on (``test``); checks what can be early.

    Raises ``InputError`` as ``audit`` does.
    """
    for name, count in (("pairs", pairs), ("test images", 1 if test_images is None else test_images)):
        if count < 1:
            raise InputError(f"{count} {name}", hint="needed: 1 or more")
    splits = {
        "train": data.split("attack-train", limit=pairs),
        "val": data.split("attack-val", limit=max(100, pairs // 5)),
        "test": data.split(split, limit=test_images),
    }
    check_sizes(splits, data.name)
    for attribute in attributes:
        splits["train"].attribute(attribute)
    return splits


def _auxiliary_images(auxiliary: DataSet | None, data: DataSet, seed: int) -> NDArray[np.uint8]:
    if auxiliary is None:
        return dead_leaves(AUXILIARY_IMAGES, data.reference_size, seed=seed)
    if auxiliary.digest == data.digest:
        raise InputError(
            f"{auxiliary.name} are the images that are attacked",
            hint="give --auxiliary images of another domain, or leave it out",
        )
    split = auxiliary.split("attack-train", limit=AUXILIARY_IMAGES)
    if len(split) < LEAST_AUXILIARY_IMAGES:
        raise InputError(
            f"{auxiliary.name} has {len(split)} images to attack with",
            hint=f"{LEAST_AUXILIARY_IMAGES} are needed; leave out --auxiliary for synthetic ones",
        )
    return split.images(data.reference_size)


def _recognition(
    recogniser: Recogniser | None, train: Pairs, test: Pairs, seed: int
) -> dict[str, Any] | None:
    if recogniser is None:
        return None
    return {
        "images": recogniser.images,
        "accuracy": recogniser.accuracy(test.images, test.labels, seed=seed).document(),
        "chance": float(np.mean(test.labels == np.bincount(train.labels).argmax())),
    }
