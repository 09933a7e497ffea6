"""Channels that are not known are no protection: an attacker who has the public backbone finds them.

PrivyNet (arXiv 1709.06161) keeps secret which of the backbone's channels are kept. This attacker observes
features, compares their statistics with those of all channels on images of another domain
(``channel_matching``), and inverts the encoder so found as a white box, by regularised maximum likelihood:
like ``likelihood``, with his images of another domain in place of images that he draws. Where he cannot tell
candidates apart he learns from the features of either, so that being wrong costs him little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...progress import SILENT, Progress
from ..baselines import mean_image
from ..view import FeatureMap, Knowledge, View
from .channel_matching import MeanImages, find_channels

if TYPE_CHECKING:
    from torch import Tensor

    from .refining import RefinedInversion

__all__ = ["UNKNOWN_CHANNELS", "UnknownChannelsAttack", "find_channels"]

_OBSERVATIONS = 1000
# Values held at once, in all channels; with larger features fewer images are looked at.
_MOST_VALUES = 1 << 25
_LEAST_IMAGES = 64
_PAIRS = 1000
_VAL_SHARE = 0.2
_TUNING_IMAGES = 16


@dataclass(frozen=True)
class UnknownChannelsAttack:
    """The attack. Its document has ``channels`` in the order of the encoder's output, and ``match_cost``."""

    name: str = "unknown-channels"
    knows: tuple[Knowledge, ...] = ("backbone", "auxiliary")

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> RefinedInversion:
        """Find the channels, then learn to invert them on the auxiliary images."""
        from .channel_matching import match_channels
        from .optimising import on_device, run_map
        from .refining import FROM_ANOTHER_DOMAIN, encoded, fit_refined

        assert view.backbone is not None
        assert view.auxiliary is not None
        started = time.monotonic()
        backbone, device = on_device(view.backbone, accelerator)
        shuffled = view.auxiliary[np.random.default_rng(seed).permutation(len(view.auxiliary))]
        with progress.task("unknown-channels: matching"):
            one = run_map(backbone, shuffled[:1], device)
            count = min(_OBSERVATIONS, max(_LEAST_IMAGES, _MOST_VALUES // one.size))
            looked_at = shuffled[:count]

            def of_mean(image: NDArray[np.float32]) -> NDArray[np.float32]:
                return np.asarray(run_map(backbone, image[None], device)[0], np.float32)

            found = match_channels(
                np.asarray(view.observed[:count], np.float32),
                run_map(backbone, looked_at, device),
                noise_std=view.noise_std,
                mean_images=MeanImages(
                    of_mean(view.mean_image), lambda rows: of_mean(mean_image(looked_at[rows]))
                ),
                seed=seed,
            )
        feature_map = _selected(view.backbone, found.channels)
        likely = _selected(view.backbone, found.channels, found.probabilities, seed)
        mine = shuffled[:_PAIRS]
        train, val, cut_short = encoded(
            likely,
            view,
            mine,
            val=max(1, int(_VAL_SHARE * len(mine))),
            seed=seed,
            budget_s=budget_s,
            accelerator=accelerator,
        )
        fitted = fit_refined(
            feature_map,
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
        fitted.details.update(_details(found.channels, found.cost, len(train)))
        if cut_short:
            fitted.stopped = "budget"
        return fitted


def _selected(
    backbone: FeatureMap,
    channels: NDArray[np.int64],
    probabilities: NDArray[np.float64] | None = None,
    seed: int = 0,
) -> Callable[[Tensor], Tensor]:
    """The encoder with these channels; with ``probabilities``, for each image channels that it may have."""
    import torch
    from torch import nn

    rng = np.random.default_rng(seed)

    class Selected(nn.Module):
        """A module where the backbone is one, so that it can be moved to where torch computes."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone
            self.register_buffer("channels", torch.from_numpy(channels))

        def forward(self, images: Tensor) -> Tensor:
            features = self.backbone(images)
            if probabilities is None:
                return features.index_select(1, self.get_buffer("channels"))
            edges = probabilities.cumsum(axis=1)
            places = rng.random((len(images), len(channels), 1))
            drawn = np.minimum((places > edges).sum(axis=2), probabilities.shape[1] - 1)
            rows = torch.arange(len(images), device=features.device)[:, None]
            return features[rows, torch.from_numpy(drawn).to(features.device)]

    return Selected()


def _details(channels: NDArray[np.int64], cost: float, auxiliary: int) -> dict[str, Any]:
    return {"channels": channels.tolist(), "match_cost": cost, "auxiliary_pairs": auxiliary}


UNKNOWN_CHANNELS = UnknownChannelsAttack()
"""The attacker to whom the choice of channels is secret."""
