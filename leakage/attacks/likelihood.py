"""Regularised maximum likelihood: a white-box attacker that has the encoder and optimises the image.

He, Zhang and Lee (ACSAC 2019): the image whose features come closest to the observed ones, with total
variation as the prior. The attacker has the encoder, so he encodes images that he makes himself: from them he
learns a linear inverse to start from, and on others he sees which weight of the prior and how many steps
rebuild best.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...progress import SILENT, Progress
from ..auxiliary import dead_leaves
from ..view import Knowledge, View

if TYPE_CHECKING:
    from .refining import RefinedInversion

OWN_IMAGES = 400
_TUNING_IMAGES = 16


@dataclass(frozen=True)
class LikelihoodAttack:
    """The attack; its settings are tuned when it is fitted."""

    name: str = "likelihood"
    knows: tuple[Knowledge, ...] = ("weights",)

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> RefinedInversion:
        """Learn the start and tune the optimiser on dead-leaves images, encoded as the private ones were."""
        from .refining import FROM_ANOTHER_DOMAIN, encoded, fit_refined

        assert view.weights is not None
        started = time.monotonic()
        own = dead_leaves(OWN_IMAGES, view.image_size, seed=seed)
        train, val, cut_short = encoded(
            view.weights,
            view,
            own,
            val=OWN_IMAGES // 4,
            seed=seed,
            budget_s=budget_s,
            accelerator=accelerator,
        )
        fitted = fit_refined(
            view.weights,
            view,
            train,
            val,
            FROM_ANOTHER_DOMAIN,
            own_domain=False,
            training_s=None,
            tuning_images=_TUNING_IMAGES,
            started=started,
            seed=seed,
            budget_s=budget_s,
            accelerator=accelerator,
            progress=progress,
        )
        if cut_short:
            fitted.stopped = "budget"
        return fitted


LIKELIHOOD = LikelihoodAttack()
"""The white-box attacker without pairs."""
