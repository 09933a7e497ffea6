"""Feature-inversion attacks: one interface, one scoring, beside what can be guessed without features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import SILENT, Progress
from .baselines import class_mean_images, mean_image
from .measures import ImageScores, Recovery, score_images
from .pairs import Pairs

_BATCH = 256


class Inversion(Protocol):
    """A fitted attack."""

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Features (n, C, h, w) -> images float32 (n, R, R, 3) in [0, 1]."""
        ...

    def document(self) -> dict[str, Any]:
        """How it was fitted: ``seconds``, ``pairs``, ``stopped`` and what else the attack has to say."""
        ...


class Attack(Protocol):
    """An attacker: what it is called, what it knows, and how it learns to invert an encoder."""

    @property
    def name(self) -> str:
        """The attack's name on the command line and in documents."""
        ...

    @property
    def knows(self) -> str:
        """What it needs beside the features: ``pairs``, the encoder's weights, …"""
        ...

    def fit(
        self,
        train: Pairs,
        val: Pairs,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> Inversion:
        """Learn from ``train``, stop by ``val`` or after ``budget_s`` seconds."""
        ...


@dataclass(frozen=True)
class DecoderAttack:
    """The trained inversion decoder (``train_decoder``): a black-box attacker with pairs."""

    name: str = field(default="decoder", init=False)
    knows: str = field(default="pairs", init=False)

    def fit(
        self,
        train: Pairs,
        val: Pairs,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> Inversion:
        """Train the decoder; see ``train_decoder``."""
        from .decoder import train_decoder

        return train_decoder(
            train, val, seed=seed, budget_s=budget_s, accelerator=accelerator, progress=progress
        )


ATTACKS: tuple[Attack, ...] = (DecoderAttack(),)
"""Every attack there is; the conformance tests run each of them."""


@dataclass(frozen=True)
class AttackResult:
    """One attack on one encoder. ``fit`` is the fitted attack's own document."""

    attack: str
    knows: str
    scores: Recovery
    image_scores: ImageScores
    fit: Mapping[str, Any]
    reconstructions: NDArray[np.uint8] = field(repr=False)
    """uint8 (n, R, R, 3)."""

    def document(self) -> dict[str, Any]:
        """As in an audit's ``attacks``."""
        return {"attack": self.attack, "knows": self.knows, **self.scores.document(), "fit": dict(self.fit)}


@dataclass(frozen=True)
class Leakage:
    """What the attacks recovered from the test images, beside what can be guessed without the features."""

    attacks: tuple[AttackResult, ...]
    blind: Recovery
    label_only: Recovery

    @property
    def strongest(self) -> AttackResult:
        """The attack with the highest r2."""
        return max(self.attacks, key=lambda result: result.scores.r2.value)

    @property
    def scores(self) -> Recovery:
        """The strongest attack's scores."""
        return self.strongest.scores

    @property
    def reconstructions(self) -> NDArray[np.uint8]:
        """The strongest attack's images, uint8 (n, R, R, 3)."""
        return self.strongest.reconstructions

    @property
    def decoder(self) -> Mapping[str, Any]:
        """The strongest attack's training: seconds, epochs, pairs, stopped."""
        return self.strongest.fit

    def document(self) -> dict[str, Any]:
        """``strongest`` (a score and its attack per measure), ``blind``, ``label_only``, ``attacks``."""
        strongest = {}
        for measure in self.scores.scores():
            best = max(self.attacks, key=lambda result: result.scores.scores()[measure].value)
            strongest[measure] = {**best.scores.scores()[measure].document(), "attack": best.attack}
        return {
            "strongest": strongest,
            "blind": self.blind.document(),
            "label_only": self.label_only.document(),
            "attacks": [result.document() for result in self.attacks],
        }


def attack_features(
    train: Pairs,
    val: Pairs,
    test: Pairs,
    *,
    attacks: Sequence[Attack] = ATTACKS,
    seed: int = 0,
    budget_s: float = 60.0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> Leakage:
    """Fit each attack on ``train`` and ``val`` and score its reconstructions of ``test``.

    ``budget_s``: seconds for each attack's training. Raises ``InputError`` for no attack or pairs of
    different shapes, and ``PrivynetError`` when all test images are the mean training image.
    """
    if not attacks:
        raise InputError("no attack", hint=f"known: {', '.join(attack.name for attack in ATTACKS)}")
    for pairs in (val, test):
        if pairs.feature_shape != train.feature_shape or pairs.image_size != train.image_size:
            raise InputError(
                f"pairs of features {pairs.feature_shape} and {train.feature_shape}, images of "
                f"{pairs.image_size} and {train.image_size} pixels",
                hint="use one encoder and one image size for all",
            )
    blind = mean_image(train.images)
    results = []
    for attack in attacks:
        fitted = attack.fit(
            train, val, seed=seed, budget_s=budget_s, accelerator=accelerator, progress=progress
        )
        rebuilt = np.empty(test.images.shape, np.uint8)
        parts = []
        for rows in _batches(len(test)):
            guess = fitted.reconstruct(test.features[rows])
            parts.append(score_images(guess, test.images[rows], mean_image=blind))
            rebuilt[rows] = np.rint(guess * 255)
        scores = ImageScores.concatenate(parts)
        results.append(
            AttackResult(
                attack.name, attack.knows, scores.summary(seed=seed), scores, fitted.document(), rebuilt
            )
        )
    return Leakage(
        tuple(results),
        blind=_score_guess(np.broadcast_to(blind, test.images.shape), test, blind).summary(seed=seed),
        label_only=_score_guess(class_mean_images(train, test.labels), test, blind).summary(seed=seed),
    )


def _score_guess(guess: NDArray[np.float32], test: Pairs, blind: NDArray[np.float32]) -> ImageScores:
    return ImageScores.concatenate(
        [score_images(guess[rows], test.images[rows], mean_image=blind) for rows in _batches(len(test))]
    )


def _batches(count: int) -> list[slice]:
    return [slice(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)]
