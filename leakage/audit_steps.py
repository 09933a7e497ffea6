"""The steps of an audit around its attacks: who can run, recognition, number of pairs, bounds, warnings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data import DataSet, Split
from ..errors import InputError
from ..progress import SILENT, Progress
from .attack import Attack
from .attacks import ATTACKS, RIDGE
from .knowledge import AuditSubject
from .pairs import Pairs
from .recognition import Recogniser
from .results import Leakage
from .storing import FolderStore
from .view import KNOWLEDGE, View

PAIR_COUNTS = (100, 1_000, 10_000)
"""Numbers of pairs at which the leakage is also measured, where there are so many."""
LEAST_PAIRS, LEAST_TEST_IMAGES = 50, 20
_RECOGNISER_IMAGES = 10_000
_DEPENDENCE_IMAGES = 2_000
_BOUND_IMAGES = 64
_BOUND_IMAGE_SIZE = 48
"""The bounds take matrices of (3 R R)^2 values; beyond this R they are left out."""
_FEW_PAIRS = 1_000

_Attack = Callable[..., Leakage]


def check_sizes(splits: Mapping[str, Split], source: str) -> None:
    """Raise ``InputError`` when a split is too small to attack or to score on."""
    for part, least in (("train", LEAST_PAIRS), ("val", LEAST_PAIRS // 5), ("test", LEAST_TEST_IMAGES)):
        if len(splits[part]) < least:
            raise InputError(
                f"{source}: split {splits[part].name} has {len(splits[part])} images, {least} are needed",
                hint="give more images, or a larger --pairs or --test-images",
            )


def runnable(
    asked: Sequence[Attack] | None, view: View, subject: AuditSubject
) -> tuple[list[Attack], list[dict[str, Any]]]:
    """The attacks to run and, of those nobody asked for, why they cannot (the document's ``not_run``).

    Raises ``InputError`` when an attack that was asked for cannot run.
    """
    chosen, left_out = [], []
    for attack in ATTACKS if asked is None else asked:
        missing = [name for name in attack.knows if name not in view.known]
        if not missing:
            chosen.append(attack)
            continue
        reason = subject.why_unknown(missing[0])
        if asked is not None:
            raise InputError(
                f"{attack.name} cannot run: it needs to know {KNOWLEDGE[missing[0]]}, but {reason}",
                hint="leave out --attack, or give what is missing",
            )
        left_out.append({"attack": attack.name, "knows": list(attack.knows), "reason": reason})
    return chosen, left_out


def train_recogniser(
    data: DataSet,
    *,
    store: FolderStore | None,
    seed: int,
    accelerator: str,
    progress: Progress = SILENT,
) -> Recogniser | None:
    """The independent network, from images of head-train, which no attack sees; trained once for a store.

    ``None`` where a class has fewer than two of them: it cannot be trained then.
    """
    split = data.split("head-train", limit=_RECOGNISER_IMAGES)
    if np.bincount(split.labels, minlength=len(data.classes)).min() < 2:
        progress.warn("a class has fewer than 2 images in head-train: no network judges the rebuilt images")
        return None
    if store is not None and store.folder.recogniser.exists():
        return Recogniser.read(
            store.folder.recogniser,
            images=len(split),
            classes=len(data.classes),
            image_size=data.reference_size,
        )
    recogniser = Recogniser.train(
        split.images(data.reference_size),
        split.labels,
        classes=len(data.classes),
        seed=seed,
        accelerator=accelerator,
        progress=progress,
    )
    if store is not None:
        recogniser.write(store.folder.recogniser)
    return recogniser


def pairs_curve(
    view: View, test: Pairs, leakage: Leakage, attack: _Attack, store: FolderStore | None
) -> list[dict[str, Any]]:
    """Leakage against the number of pairs: the closed form and the strongest attack that has only pairs."""
    assert view.pairs is not None
    train, val = view.pairs
    pairs_only = [result for result in leakage.attacks if result.knows == ("pairs",)]
    if not pairs_only:
        return []
    strongest = max(pairs_only, key=lambda result: result.scores.r2.value).attack
    names = {result.attack for result in pairs_only} & {RIDGE.name, strongest}
    shown = [candidate for candidate in ATTACKS if candidate.name in names]
    if not shown:
        return []
    found = []
    for count in (count for count in PAIR_COUNTS if count < len(train)):
        part = View.of_pairs(_first(train, count), _first(val, max(20, count // 5)))
        kept = store.named(f"pairs-{count}") if store else None
        smaller = attack(
            replace(part, noise_std=view.noise_std),
            test,
            attacks=shown,
            store=kept,
            title=f"with {count} pairs",
        )
        found += [(count, result) for result in smaller.attacks]
    found += [(len(train), result) for result in pairs_only if result.attack in names]
    return [
        {
            "attack": result.attack,
            "pairs": count,
            **{name: result.scores.scores()[name].document() for name in ("psnr_db", "ssim", "r2")},
        }
        for count, result in found
    ]


def _first(pairs: Pairs, count: int) -> Pairs:
    return Pairs(pairs.features[:count], pairs.images[:count], pairs.labels[:count])


def attribute_entry(
    name: str,
    data: DataSet,
    splits: Mapping[str, Split],
    pairs: Sequence[Pairs],
    *,
    store: FolderStore | None,
    seed: int,
    accelerator: str,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """One attribute of the document's ``attributes``; ``pairs`` are those of the splits, in their order."""
    from .attributes import attack_attribute

    def attack() -> dict[str, Any]:
        train, val, test = (
            replace(part, labels=split.attribute(name))
            for part, split in zip(pairs, splits.values(), strict=True)
        )
        classes = data.attributes[name].classes
        return attack_attribute(
            name, classes, train, val, test, seed=seed, accelerator=accelerator, progress=progress
        ).document()

    # any printable name is allowed, and not all of them name files
    file = f"attribute-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return store.once(file, attack) if store else attack()


def unattacked(
    subject: AuditSubject,
    train: Pairs,
    test: Pairs,
    *,
    store: FolderStore | None,
    seed: int,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """What can be said without an attack: distance correlation, and bounds where there is noise."""
    from .distance_correlation import distance_correlation

    part = slice(0, _DEPENDENCE_IMAGES)
    dependence = distance_correlation(test.images[part].astype(np.float32) / 255, test.features[part])
    dcor = dependence.document()

    def bounds() -> dict[str, Any]:
        return _bounds(subject, train, test, seed, progress)

    if subject.encoder.noise_std == 0 or why_no_bound(subject, test.image_size):
        return {"dcor": dcor, "bound": None}
    return {"dcor": dcor, "bound": store.once("bound", bounds) if store else bounds()}


def why_no_bound(subject: AuditSubject, image_size: int) -> str | None:
    """Why no bound can be computed for a noisy encoder, or ``None``."""
    if subject.torch_encoder is None:
        return subject.why_unknown("weights")
    if image_size > _BOUND_IMAGE_SIZE:
        return f"the images have more than {_BOUND_IMAGE_SIZE} pixels a side"
    if subject.encoder.input_size > image_size:
        return "the encoder sees more pixels than the images that are attacked have"
    return None


def _bounds(
    subject: AuditSubject, train: Pairs, test: Pairs, seed: int, progress: Progress
) -> dict[str, Any]:
    """Van Trees over images drawn from the prior, which it holds for; dFIL over real ones."""
    from .fisher import Information, average_information
    from .gaussian_prior import gaussian_prior

    prior = gaussian_prior(train.images)
    drawn = prior.sample(_BOUND_IMAGES, np.random.default_rng(seed))
    encoder = subject.feature_map(train.image_size)
    half = _BOUND_IMAGES // 2
    first, second = (
        average_information(encoder, part, progress=progress) for part in (drawn[:half], drawn[half:])
    )
    whole = Information((first.matrix + second.matrix) / 2, _BOUND_IMAGES)
    noise_std = subject.encoder.noise_std
    bounds, fewer = (part.bounds(noise_std, prior.covariance) for part in (whole, first))
    real = average_information(encoder, test.images[:half], progress=progress)
    unbiased = real.bounds(noise_std, prior.covariance)
    text = f"Gaussian, mean and shrunk covariance of {len(train)} attack-train images"
    document = bounds.document(prior=text)
    for key in ("dfil", "unbiased_mse", "unbiased_psnr_db"):
        document[key] = unbiased.document()[key]
    return {
        **document,
        "n_unbiased": unbiased.n,
        # Half as many images err by about twice as much.
        "optimistic_by_db": abs(bounds.van_trees_psnr_db - fewer.van_trees_psnr_db),
    }


def describe(subject: AuditSubject) -> dict[str, Any]:
    """The document's ``encoder``: what was attacked, without the channels that it keeps."""
    spec, encoder = subject.spec, subject.encoder
    shown: dict[str, Any] = {
        "input_size": encoder.input_size,
        "feature_shape": list(encoder.feature_shape),
        "noise_std": encoder.noise_std,
    }
    if spec is not None:
        shown |= {
            "backbone": spec.backbone,
            "cut": spec.cut,
            "channels": len(spec.channels),
            "projection": spec.projection.method if spec.projection else None,
            "payload_bits": spec.payload.bits,
            "payload_bytes": spec.payload.bytes(encoder.feature_shape),
            "adapted": spec.adapted.method if spec.adapted else None,
        }
    return shown


def warnings(
    leakage: Leakage, subject: AuditSubject, *, pairs: int, image_size: int, budget_s: float
) -> list[str]:
    """What to be careful about."""
    found = [
        f"{result.attack}: it was still improving after {budget_s:g} s; a longer attack may recover more"
        for result in leakage.attacks
        if result.fit.get("stopped") == "budget"
    ]
    if pairs < _FEW_PAIRS:
        found.append(f"only {pairs} attack pairs; an attacker with more may recover more")
    if not subject.encoder.noise_std > 0:
        found.append("the encoder adds no noise: no guarantee exists, only what these attacks recovered")
    elif reason := why_no_bound(subject, image_size):
        found.append(f"no bound on the error was computed: {reason}")
    if subject.spec is not None and subject.spec.projection is not None:
        found.append(
            "the encoder sends a projection: no attacker here knows the backbone and seeks the matrix; "
            "count on what those who know the weights recovered"
        )
    if subject.torch_encoder is not None and subject.encoder.input_size > image_size:
        found.append(
            f"the encoder sees {subject.encoder.input_size} pixels, images are attacked at {image_size}: "
            "attacks that know its weights run it on blurred images; they could recover more than shown"
        )
    return found
