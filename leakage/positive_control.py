"""The positive control: every attack on the images themselves; one that fails there shows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..progress import SILENT, Progress
from .attack import Attack, attack_features
from .baselines import mean_image
from .pairs import Pairs
from .results import Leakage, ResultStore
from .view import View

CONTROL_PSNR_DB = 30.0
"""An attack passes when it rebuilds the images themselves at least this well."""
_BLIND_PSNR_DB = 20.0
_BLIND = ("substitute", "unknown-channels")
"""Attacks without pairs or weights must find out first what the encoder does; a sign or a colour mistaken
in some places costs ten dB, though the image is there to be seen."""
_PAIRS, _VAL_PAIRS, _TEST_IMAGES = 2000, 500, 200


def required_psnr_db(attack: str) -> float:
    """What an attack must reach on the images themselves."""
    return _BLIND_PSNR_DB if attack in _BLIND else CONTROL_PSNR_DB


def control(
    train: Pairs,
    val: Pairs,
    test: Pairs,
    *,
    attacks: Sequence[Attack],
    auxiliary: NDArray[np.uint8],
    store: ResultStore | None = None,
    seed: int = 0,
    budget_s: float = 60.0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> Leakage:
    """Attack the encoder that sends each image as it is, with the images of these pairs."""
    test = identity_pairs(test, _TEST_IMAGES)
    return attack_features(
        identity_view(identity_pairs(train, _PAIRS), identity_pairs(val, _VAL_PAIRS), auxiliary),
        test,
        attacks=attacks,
        averaged=test.features,
        store=store,
        seed=seed,
        budget_s=budget_s,
        accelerator=accelerator,
        title="positive controls",
        progress=progress,
    )


def control_document(attack: str, leakage: Leakage) -> dict[str, Any]:
    """An attack's ``control`` in an audit's document."""
    (result,) = [result for result in leakage.attacks if result.attack == attack]
    required = required_psnr_db(attack)
    score = result.scores.psnr_db
    return {
        "psnr_db": score.document(),
        "required_psnr_db": required,
        "passed": score.value >= required,
        "stopped": result.fit.get("stopped"),
    }


def identity_pairs(pairs: Pairs, limit: int) -> Pairs:
    """The pairs of an encoder that sends the images as they are."""
    images = pairs.images[:limit]
    features = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return Pairs(features, images, pairs.labels[:limit])


def identity_view(train: Pairs, val: Pairs, auxiliary: NDArray[np.uint8]) -> View:
    """Everything an attacker may know of that encoder."""
    from .feature_modules import Identity, RandomColours

    return View(
        train.features,
        mean_image(val.images),
        pairs=(train, val),
        weights=Identity(),
        backbone=Identity(),
        family=RandomColours,
        auxiliary=auxiliary,
        captures=(train, val),
    )
