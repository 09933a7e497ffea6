"""How much a search spends on each candidate, and the images that it sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data import DataSet, Split
from ...errors import InputError

LEAST_IMAGES = 2
"""Of each class: one to train the head on, one to stop its training by."""


@dataclass(frozen=True)
class Budget:
    """How much is spent on each candidate: images, pairs of feature and image, seconds."""

    train_images: int
    attack_pairs: int
    attack_s: float
    select_images: int = 2_000
    attack_val_images: int = 500


def search_splits(data: DataSet, budget: Budget) -> dict[str, Split]:
    """The images a search sees: never those of ``test``."""
    return {
        "head-train": data.split("head-train", limit=budget.train_images),
        "attack-train": data.split("attack-train", limit=budget.attack_pairs),
        "attack-val": data.split("attack-val", limit=budget.attack_val_images),
        "select": data.split("select", limit=budget.select_images),
    }


def check_classes(data: DataSet, train: Split) -> None:
    """Raise ``InputError`` unless the head's training images hold enough of every class."""
    counts = np.bincount(train.labels, minlength=len(data.classes))
    rarest = int(np.argmin(counts))
    if counts[rarest] >= LEAST_IMAGES:
        return
    enough = int((data.split("head-train").labels == rarest).sum()) >= LEAST_IMAGES
    raise InputError(
        f"class {data.classes[rarest]!r} has {counts[rarest]} of the {len(train)} training images, "
        f"at least {LEAST_IMAGES} are needed",
        hint="give more --train-images" if enough else "add images of it or remove the class",
    )
