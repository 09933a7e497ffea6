"""An estimate of the image from learned pairs, refined against the features by an attacker that has f.

What the three attackers share that can run the encoder: they differ in where their pairs come from (images
they made themselves, images of another domain, or pairs of the private domain) and in how they learned to
estimate from them. How to refine is tuned on held-out pairs; not to refine at all is among the choices.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...progress import Progress
from ..baselines import mean_image
from ..decoders import Decoder, train_decoder
from ..pairs import Pairs
from ..view import FeatureMap, View
from .optimising import Optimiser, Recipe, Tuned, on_device, run_map
from .transmission import Transmission

_TUNING_SHARE = 0.25
_VARIANCE_IMAGES = 256
_LEAST_VARIANCE = 1e-5
_ENCODING_SHARE = 0.1
_TIMED_IMAGES = 16
# A training budget that ends before the first step leaves the decoder at its closed-form start.
_NO_TRAINING_S = 1e-6


FROM_ANOTHER_DOMAIN = tuple(
    Recipe(0, tv, pull, near)
    for near, tv, pull in (
        (True, 0.01, 0.0),
        (True, 0.1, 0.0),
        (True, 1.0, 0.0),
        (True, 10.0, 0.0),
        (True, 0.1, 0.1),
        (True, 1.0, 0.1),
        (True, 1.0, 1.0),
        (False, 0.1, 0.0),
        (False, 1.0, 0.0),
    )
)
"""What is tried where the estimate comes from images of another domain, plain maximum likelihood included."""


@dataclass
class RefinedInversion:
    """A decoder and a tuned optimiser. The number of steps is fixed with the first features to be inverted.

    ``shift``: float32 (R, R, 3), added to the decoder's images where it was trained on another domain.
    """

    decoder: Decoder = field(repr=False)
    shift: NDArray[np.float32] = field(repr=False)
    optimiser: Optimiser = field(repr=False)
    tuned: Tuned
    fit_seconds: float
    budget_s: float
    stopped: str
    details: dict[str, Any] = field(default_factory=dict)
    pairs: int = 0
    """Of the private domain."""
    recipe: Recipe | None = None
    seconds: float = 0.0

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Features (n, C, h, w) -> images float32 (n, R, R, 3) in [0, 1]."""
        started = time.monotonic()
        estimates = np.clip(self.decoder.reconstruct(features) + self.shift, 0, 1)
        left = max(0.0, self.budget_s - self.fit_seconds - (time.monotonic() - started))
        if self.recipe is None:
            self.recipe, short = self.tuned.choose(len(features), left)
            self.stopped = "budget" if short else self.stopped
        if self.recipe.steps == 0:
            images = estimates
        else:
            images, late, _ = self.optimiser.rebuild(features, self.recipe, estimates=estimates, seconds=left)
            self.stopped = "budget" if late else self.stopped
        self.seconds += time.monotonic() - started
        return np.asarray(images, np.float32)

    def document(self) -> dict[str, Any]:
        """The tuning and the seconds, for an audit's document."""
        recipe = self.recipe or self.tuned.choose(1, self.budget_s)[0]
        return {
            "seconds": round(self.fit_seconds + self.seconds, 3),
            "pairs": self.pairs,
            "stopped": self.stopped,
            "steps": recipe.steps,
            "total_variation": recipe.tv,
            "pull": recipe.pull,
            "starts_at": "estimate" if recipe.from_estimate else "mean image",
            "tuning_psnr_db": self.tuned.psnr_db,
            **self.details,
        }


def encoded(
    feature_map: FeatureMap,
    view: View,
    images: NDArray[np.uint8],
    *,
    val: int,
    seed: int,
    budget_s: float,
    accelerator: str,
) -> tuple[Pairs, Pairs, bool]:
    """Pairs that the attacker makes from images he has, to train on and ``val`` to stop by.

    Noise and rounding are as in what he observed. Where encoding would take too much of the budget there
    are fewer pairs, and the last value is true.
    """
    placed, device = on_device(feature_map, accelerator)
    started = time.monotonic()
    run_map(placed, images[:_TIMED_IMAGES], device)
    per_image = (time.monotonic() - started) / _TIMED_IMAGES
    fitting = max(2 * val, int(_ENCODING_SHARE * budget_s / per_image))
    cut_short, images = fitting < len(images), images[:fitting]
    sent = Transmission.seen_in(view.observed, view.noise_std).apply(
        run_map(placed, images, device), np.random.default_rng(seed)
    )
    labels = np.zeros(len(images), np.int64)
    train = Pairs(sent[val:], images[val:], labels[val:])
    return train, Pairs(sent[:val], images[:val], labels[:val]), cut_short


def fit_refined(
    feature_map: FeatureMap,
    view: View,
    train: Pairs,
    val: Pairs,
    recipes: Sequence[Recipe],
    *,
    own_domain: bool,
    training_s: float | None,
    tuning_images: int,
    started: float,
    seed: int,
    budget_s: float,
    accelerator: str,
    progress: Progress,
) -> RefinedInversion:
    """Train the decoder (``training_s`` ``None``: its closed form only) and tune the refinement on ``val``.

    ``own_domain``: whether the pairs are of the private domain; else the decoder's images are shifted so
    that those of the observed features average to the public mean image. ``started``: ``time.monotonic()``
    when the attack began.
    """
    decoder = train_decoder(
        train,
        val,
        seed=seed,
        budget_s=_NO_TRAINING_S if training_s is None else training_s,
        accelerator=accelerator,
        progress=progress,
    )
    held_out = val.images[:_VARIANCE_IMAGES]
    estimates = decoder.reconstruct(val.features[:_VARIANCE_IMAGES])
    squared = np.square(estimates - held_out.astype(np.float32) / 255).mean(axis=0)
    variance = (squared + squared.mean()) / 2 + _LEAST_VARIANCE
    shift = np.zeros_like(view.mean_image) if own_domain else _shift(decoder, view)
    transmission = Transmission.seen_in(view.observed, view.noise_std)
    optimiser = Optimiser(
        feature_map,
        view.mean_image,
        transmission.channel_scale(view.observed),
        variance=variance,
        accelerator=accelerator,
    )
    with progress.task("likelihood: tuning"):
        tuned = optimiser.tune(
            np.asarray(val.features[:tuning_images], np.float32),
            val.images[:tuning_images],
            recipes,
            estimates=estimates[:tuning_images],
            mean_image=view.mean_image if own_domain else mean_image(train.images),
            seconds=_TUNING_SHARE * budget_s,
        )
    seconds = time.monotonic() - started
    stopped = "converged" if training_s is None else decoder.stopped
    return RefinedInversion(decoder, shift, optimiser, tuned, seconds, budget_s, stopped)


def _shift(decoder: Decoder, view: View) -> NDArray[np.float32]:
    """From the mean of the decoder's images to the public mean image, less what is only sampling noise."""
    rebuilt = decoder.reconstruct(view.observed[:_VARIANCE_IMAGES])
    shift = view.mean_image - rebuilt.mean(axis=0)
    noise = float(rebuilt.var(axis=0).mean()) / len(rebuilt)
    squared = float(np.square(shift).mean())
    return np.asarray(shift * (max(0.0, 1 - noise / squared) if squared > 0 else 0), np.float32)
