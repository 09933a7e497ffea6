"""Judging one candidate: its channels, the head's accuracy, what the attacker recovers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import DataSet, Score, Split
from ..encoders import Splitter, fisher_scores, random_channels, top_channels
from ..errors import InputError
from ..leakage import DECODER_RESIDUAL, Leakage, Pairs, View, attack_features
from ..progress import SILENT, Progress
from .features import FeatureStore
from .space import Candidate, Space

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


@dataclass(frozen=True)
class Judgement:
    """A candidate's utility on ``select``, and what was recovered of the same images."""

    utility: Score
    leakage: Leakage
    seconds: dict[str, float]


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


class Judge:
    """Trains a head and an attacker for a candidate, on cached features."""

    def __init__(
        self,
        space: Space,
        store: FeatureStore,
        *,
        budget: Budget,
        secret: bytes,
        seed: int,
        accelerator: str,
    ) -> None:
        self.space, self.store, self.budget = space, store, budget
        self.secret, self.seed, self.accelerator = secret, seed, accelerator
        self._images = {
            name: split.images(store.data.reference_size)
            for name, split in store.splits.items()
            if name != "head-train"
        }

    def channels(self, candidate: Candidate, *, progress: Progress = SILENT) -> tuple[int, ...]:
        """The channels that the candidate's policy keeps, in the order of the encoder's output."""
        splitter = self._splitter(candidate)
        available = splitter.cut(candidate.cut).channels
        if candidate.channels == available:
            return tuple(range(available))
        if candidate.policy == "random":
            purpose = f"{splitter.backbone.name.architecture} {splitter.input_size} {candidate.cut}"
            kept = random_channels(
                self.secret, available=available, count=candidate.channels, purpose=purpose
            )
        else:
            features = self.store.features(splitter, candidate.cut, "head-train", progress=progress)
            labels = self.store.splits["head-train"].labels
            kept = top_channels(fisher_scores(features, labels), candidate.channels)
        return splitter.order(candidate.cut, kept)

    def judge(
        self, candidate: Candidate, channels: Sequence[int], *, progress: Progress = SILENT
    ) -> Judgement:
        """Train and score both networks; the attacker has the budget's seconds at most."""
        started = time.perf_counter()
        features = self._features(candidate, channels, progress)
        encoded = time.perf_counter()
        leakage = self.attack(features, budget_s=self.budget.attack_s, progress=progress)
        attacked = time.perf_counter()
        utility = self._utility(features, progress)
        seconds = {
            "features": encoded - started,
            "attack": attacked - encoded,
            "head": time.perf_counter() - attacked,
        }
        return Judgement(utility, leakage, {name: round(value, 2) for name, value in seconds.items()})

    def attack(
        self,
        features: dict[str, NDArray[Any]],
        *,
        budget_s: float,
        seed: int | None = None,
        progress: Progress = SILENT,
    ) -> Leakage:
        """Run the attacks on pairs made of the splits' images and their ``features`` (n, C, h, w)."""
        train, val, test = (
            Pairs(features[name], self._images[name], self.store.splits[name].labels)
            for name in ("attack-train", "attack-val", "select")
        )
        return attack_features(
            View.of_pairs(train, val),
            test,
            attacks=[DECODER_RESIDUAL],
            seed=self.seed if seed is None else seed,
            budget_s=budget_s,
            accelerator=self.accelerator,
            progress=progress,
        )

    def originals(self) -> NDArray[np.uint8]:
        """The images of ``select`` at the reference size, uint8 (n, R, R, 3)."""
        return self._images["select"]

    def _splitter(self, candidate: Candidate) -> Splitter:
        return self.space.splitters[candidate.backbone, candidate.input_size]

    def _features(
        self, candidate: Candidate, channels: Sequence[int], progress: Progress
    ) -> dict[str, NDArray[Any]]:
        splitter = self._splitter(candidate)
        kept = list(channels)
        return {
            name: np.ascontiguousarray(
                self.store.features(splitter, candidate.cut, name, progress=progress)[:, kept]
            )
            for name in self.store.splits
        }

    def _utility(self, features: dict[str, NDArray[Any]], progress: Progress) -> Score:
        from ..cloud import FeatureSet, fit_head
        from ..cloud.train import hold_out

        labels = self.store.splits["head-train"].labels
        trained_on, stopped_by = (
            FeatureSet(features["head-train"][rows], labels[rows])
            for rows in hold_out(labels, self.store.data.classes, seed=self.seed)
        )
        head = fit_head(
            trained_on,
            stopped_by,
            classes=len(self.store.data.classes),
            seed=self.seed,
            accelerator=self.accelerator,
            progress=progress,
        )
        hits = head.predict(features["select"]) == self.store.splits["select"].labels
        return Score.mean(hits.astype(np.float64), seed=self.seed)
