"""Maximum a posteriori: a white-box attacker that has pairs of the private domain too.

It starts from a trained decoder's image and refines it against the features, pulled towards that image by a
Gaussian prior whose variance per pixel is the decoder's error on validation pairs. Where the encoder adds
Gaussian noise, the exact posterior's weight is among those tried. Strength and steps are chosen on validation
pairs; no refinement is among the choices.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...progress import SILENT, Progress
from ..view import Knowledge, View
from .transmission import Transmission

if TYPE_CHECKING:
    from .refining import RefinedInversion

_DECODER_SHARE = 0.75
_TUNING_IMAGES = 24
_PULLS = (0.003, 0.03, 0.3)


@dataclass(frozen=True)
class LikelihoodPriorAttack:
    """The attack; its settings are tuned when it is fitted."""

    name: str = "likelihood-prior"
    knows: tuple[Knowledge, ...] = ("weights", "pairs")

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> RefinedInversion:
        """Train the decoder on the pairs for half of the budget, then tune the refinement."""
        from .optimising import Recipe
        from .refining import fit_refined

        assert view.weights is not None
        assert view.pairs is not None
        started = time.monotonic()
        train, val = view.pairs
        pulls = list(_PULLS)
        if view.noise_std:
            # -log p(z | x) - log p(x) in the objective's units: means, not sums, and s in place of the noise.
            scale = Transmission.seen_in(view.observed, view.noise_std).channel_scale(view.observed)
            values = train.features[0].size / train.images[0].size
            exact = view.noise_std**2 / float((scale**2).mean()) / values
            pulls = [exact / 4, exact, 4 * exact]
        fitted = fit_refined(
            view.weights,
            view,
            train,
            val,
            [Recipe(0, tv, pull, True) for tv in (0.0, 0.1) for pull in pulls],
            own_domain=True,
            training_s=_DECODER_SHARE * budget_s,
            tuning_images=_TUNING_IMAGES,
            started=started,
            seed=seed,
            budget_s=budget_s,
            accelerator=accelerator,
            progress=progress,
        )
        fitted.pairs = len(train)
        return fitted


LIKELIHOOD_PRIOR = LikelihoodPriorAttack()
"""The white-box attacker with pairs."""
