"""The attribute attack: what features tell about a private attribute, beside what the raw images tell.

The attacker has features with the value of an attribute (identity, gender, the group of a class) for some
images, and learns to predict it for others. The networks are those that heads are made of.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import Score
from ..errors import InputError
from ..progress import SILENT, Progress
from .pairs import Pairs

_MAX_STEPS = 1500


@dataclass(frozen=True)
class Predictions:
    """How well one network predicts the attribute of the test images, and how it was trained.

    ``balanced_accuracy``: the mean over the values that occur of the share of their images that are right;
    its interval takes each value's share of the test images as given.
    """

    accuracy: Score
    balanced_accuracy: Score
    fit: dict[str, Any]


@dataclass(frozen=True)
class AttributeResult:
    """What is predicted of one attribute from features, from raw images, and from nothing."""

    attribute: str
    classes: tuple[str, ...]
    features: Predictions
    raw_images: Predictions
    chance: float
    """The accuracy on the test images of always answering the most frequent value of the training pairs."""
    seed: int = 0

    def document(self) -> dict[str, Any]:
        """As in an audit's ``attributes``; ``uniform_chance``: 1 / number of values."""
        return {
            "attribute": self.attribute,
            "classes": list(self.classes),
            "accuracy": self.features.accuracy.document(),
            "balanced_accuracy": self.features.balanced_accuracy.document(),
            "chance": self.chance,
            "uniform_chance": 1 / len(self.classes),
            "raw_images": self.raw_images.accuracy.document(),
            "raw_images_balanced": self.raw_images.balanced_accuracy.document(),
            "fit": {"features": self.features.fit, "raw_images": self.raw_images.fit},
            "seed": self.seed,
        }


def attack_attribute(
    name: str,
    classes: Sequence[str],
    train: Pairs,
    val: Pairs,
    test: Pairs,
    *,
    seed: int = 0,
    max_steps: int = _MAX_STEPS,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> AttributeResult:
    """Learn to predict an attribute on ``train``, stop by ``val``, and score on ``test``.

    The pairs' ``labels`` are positions in ``classes``, the attribute's values. The same network (``conv``,
    or ``mlp`` for features smaller than 3x3) is trained on the features and on the images, for at most
    about ``max_steps`` optimiser steps. Values that no training pair has are never answered. Deterministic
    for a seed on the CPU. Raises ``InputError`` when the pairs' shapes differ, a value is none of
    ``classes``, the training pairs have fewer than two values, the validation pairs none of those, or
    features are not finite.
    """
    from ..cloud import FeatureSet, fit_head

    for pairs in (val, test):
        if pairs.feature_shape != train.feature_shape or pairs.image_size != train.image_size:
            raise InputError(
                f"pairs of features {pairs.feature_shape} and {train.feature_shape}, images of "
                f"{pairs.image_size} and {train.image_size} pixels",
                hint="use one encoder and one image size for all",
            )
    for pairs in (train, val, test):
        if pairs.labels.min() < 0 or pairs.labels.max() >= len(classes):
            raise InputError(
                f"attribute {name!r} has a value outside 0 to {len(classes) - 1}",
                hint="give positions in its classes",
            )
    seen, counts = np.unique(train.labels, return_counts=True)
    if len(seen) < 2:
        raise InputError(
            f"attribute {name!r}: all {len(train)} training images are {classes[seen[0]]!r}",
            hint="use more images, or another attribute",
        )
    known = np.isin(val.labels, seen)
    if not known.any():
        raise InputError(
            f"attribute {name!r}: the validation images share no value with the training images",
            hint="use more images, or an attribute with fewer values",
        )
    predictions = []
    with progress.task(f"attribute {name}", 2) as task:
        for inputs, kind in ((_features, "features"), (_planes, "raw images")):
            started = time.monotonic()
            head = fit_head(
                FeatureSet(inputs(train), np.searchsorted(seen, train.labels)),
                FeatureSet(inputs(val)[known], np.searchsorted(seen, val.labels[known])),
                classes=len(seen),
                seed=seed,
                max_steps=max_steps,
                accelerator=accelerator,
                progress=progress,
            )
            answers = seen[head.predict(inputs(test))]
            fit = {
                "seconds": round(time.monotonic() - started, 3),
                "pairs": len(train),
                "epochs": head.epochs,
                "val_accuracy": head.val_accuracy,
            }
            predictions.append(_scored(answers, test.labels, fit, seed))
            task.advance(note=kind)
    features, raw_images = predictions
    usual = seen[np.argmax(counts)]
    return AttributeResult(
        name,
        tuple(classes),
        features=features,
        raw_images=raw_images,
        chance=float(np.mean(test.labels == usual)),
        seed=seed,
    )


def _features(pairs: Pairs) -> NDArray[Any]:
    return pairs.features


def _planes(pairs: Pairs) -> NDArray[np.float16]:
    """The images as float16 (n, 3, R, R) in [0, 1]: half the memory, and still no two levels alike."""
    return pairs.images.transpose(0, 3, 1, 2).astype(np.float16) / np.float16(255)


def _scored(
    answers: NDArray[np.int64], values: NDArray[np.int64], fit: dict[str, Any], seed: int
) -> Predictions:
    right = (answers == values).astype(np.float64)
    occurring, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    # With these weights the mean over images is the mean over values of each value's share.
    balanced = Score.mean(right * len(values) / (len(occurring) * counts[where]), seed)
    low, high = balanced.ci95
    return Predictions(Score.mean(right, seed), replace(balanced, ci95=(low, min(high, 1.0))), fit)
