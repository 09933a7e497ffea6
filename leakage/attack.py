"""What every attack is, and the one way in which attacks are run and scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import SILENT, Progress
from .baselines import class_mean_images, mean_image
from .measures import Recovery, score_images
from .pairs import Pairs
from .recognition import Recogniser
from .results import AttackResult, Leakage, ResultStore
from .view import KNOWLEDGE, Knowledge, View


class Inversion(Protocol):
    """A fitted attack."""

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Features (n, C, h, w) -> images float32 (n, R, R, 3) in [0, 1], each from its own features alone.

        For an attack that knows ``captures`` the features are means over as many captures.
        """
        ...

    def document(self) -> dict[str, Any]:
        """How it was fitted: ``seconds``, ``pairs``, ``stopped`` and what else the attack has to say.

        Asked for after ``reconstruct``, whose seconds count. ``pairs`` is 0 where none were used.
        """
        ...


class Attack(Protocol):
    """An attacker: what it is called, what it knows, and how it learns to invert an encoder."""

    @property
    def name(self) -> str:
        """The attack's name on the command line and in documents."""
        ...

    @property
    def knows(self) -> tuple[Knowledge, ...]:
        """What of ``KNOWLEDGE`` it needs."""
        ...

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> Inversion:
        """Learn what there is to learn before the images to rebuild are seen.

        Fitting and reconstructing together end after about ``budget_s`` seconds, sooner when nothing
        improves any more; the outcome depends on the seed and not on the clock unless ``stopped`` is
        ``budget``.
        """
        ...


def attack_features(
    view: View,
    test: Pairs,
    *,
    attacks: Sequence[Attack],
    averaged: NDArray[Any] | None = None,
    recogniser: Recogniser | None = None,
    channels: Sequence[int] | None = None,
    store: ResultStore | None = None,
    floors: tuple[Recovery, Recovery] | None = None,
    seed: int = 0,
    budget_s: float = 60.0,
    accelerator: str = "auto",
    title: str = "attacks",
    progress: Progress = SILENT,
) -> Leakage:
    """Run each attack with what it knows of ``view`` and score its reconstructions of ``test``.

    The view must hold pairs, which give the floors. ``averaged``: the test features as means over several
    captures, for attacks that know ``captures``. With ``recogniser`` the rebuilt images are also judged by
    an independent network. ``channels``: those that the encoder keeps, in the order of its output; what an
    attack takes for them is compared and not kept. ``store`` keeps finished attacks, which are then not run
    again. ``floors``: ``blind`` and ``label_only`` of another encoder, where the images are the same.
    ``budget_s``: seconds for each attack. ``title``: what the progress is called.

    Raises ``InputError`` for no attack, one that lacks what it must know, or pairs of different shapes, and
    ``PrivynetError`` when all test images are the mean training image.
    """
    assert view.pairs is not None, "the floors come from pairs"
    if not attacks:
        raise InputError("no attack", hint="name at least one")
    train, val = view.pairs
    for pairs in (val, test):
        if pairs.feature_shape != train.feature_shape or pairs.image_size != train.image_size:
            raise InputError(
                f"pairs of features {pairs.feature_shape} and {train.feature_shape}, images of "
                f"{pairs.image_size} and {train.image_size} pixels",
                hint="use one encoder and one image size for all",
            )
    for attack in attacks:
        missing = [KNOWLEDGE[name] for name in attack.knows if name not in view.known]
        if missing:
            raise InputError(f"{attack.name} needs to know {missing[0]}", hint="leave it out")
    blind = mean_image(train.images)
    results = []
    with progress.task(title, len(attacks)) as task:
        for attack in attacks:
            result = store.load(attack.name) if store else None
            if result is None:
                fitted = attack.fit(
                    view.only(attack.knows),
                    seed=seed,
                    budget_s=budget_s,
                    accelerator=accelerator,
                    progress=progress,
                )
                averages = "captures" in attack.knows
                assert averaged is not None or not averages, "a view with captures has averaged test features"
                rebuilt = fitted.reconstruct(averaged if averages and averaged is not None else test.features)
                scores = score_images(rebuilt, test.images, mean_image=blind)
                if recogniser is not None:
                    scores = scores.recognised_by(recogniser, rebuilt, test.images, test.labels)
                pixels = np.rint(rebuilt * 255).astype(np.uint8)
                result = AttackResult(
                    attack.name, attack.knows, scores, _without_channels(fitted, channels), pixels, seed
                )
                if store is not None:
                    store.save(result)
            results.append(result)
            task.advance(note=attack.name)
    if floors is None:
        guesses = np.broadcast_to(blind, test.images.shape), class_mean_images(train, test.labels)
        found = []
        for guess in guesses:
            scores = score_images(guess, test.images, mean_image=blind)
            if recogniser is not None:
                scores = scores.recognised_by(recogniser, guess, test.images, test.labels)
            found.append(scores.summary(seed=seed))
        floors = found[0], found[1]
    return Leakage(tuple(results), blind=floors[0], label_only=floors[1])


def _without_channels(fitted: Inversion, kept: Sequence[int] | None) -> dict[str, Any]:
    """The attack's document with the share of channels that it ``found`` instead of the channels."""
    document = dict(fitted.document())
    guessed = document.pop("channels", None)
    if guessed is not None and kept is not None:
        document["found"] = float(np.mean(np.asarray(guessed) == np.asarray(kept)))
    return document
