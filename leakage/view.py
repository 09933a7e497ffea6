"""What an attacker holds: an attack gets a view cut down to what it says it knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .baselines import mean_image
from .pairs import Pairs

if TYPE_CHECKING:
    from torch import Tensor, nn

Knowledge = Literal["pairs", "weights", "backbone", "family", "auxiliary", "captures"]

KNOWLEDGE: Mapping[Knowledge, str] = {
    "pairs": "images with what the encoder sent for them",
    "weights": "the encoder itself: its weights and kept channels",
    "backbone": "the backbone's weights and the cut, not which channels were kept",
    "family": "the backbone's architecture and the cut, not its weights",
    "auxiliary": "images of another domain",
    "captures": "several captures of each scene, and pairs of such",
}
"""What an attacker may know beside the features it observes and the mean image, in plain words."""

FeatureMap = Callable[["Tensor"], "Tensor"]
"""An encoder as an attacker runs it: float32 (n, 3, R, R) in [0, 1] -> float32 (n, C, h, w), without noise,
not quantised, differentiable in the images. Modules are frozen and in evaluation mode."""


@dataclass(frozen=True)
class View:
    """What one attacker holds.

    ``observed``: what the encoder sent, (n, C, h, w), for scenes of the private domain; whoever receives the
    features has them. ``mean_image``: float32 (R, R, 3) in [0, 1], the mean of other images of that
    domain; taken to be public, as are ``image_size`` and ``noise_std``. All else is ``None`` where the
    attacker lacks it.
    """

    observed: NDArray[Any] = field(repr=False)
    mean_image: NDArray[np.float32] = field(repr=False)
    noise_std: float = 0.0
    """Standard deviation of the Gaussian noise that the encoder adds to each value."""
    pairs: tuple[Pairs, Pairs] | None = None
    """To train on and to stop by."""
    weights: FeatureMap | None = None
    backbone: FeatureMap | None = None
    """Gives all D channels of the cut; the encoder sends some of them, in any order."""
    family: Callable[[int], nn.Module] | None = None
    """From a seed, a new encoder of the same architecture with trainable random weights."""
    auxiliary: NDArray[np.uint8] | None = None
    """uint8 (m, R, R, 3)."""
    captures: tuple[Pairs, Pairs] | None = None
    """As ``pairs``; the features are means over as many captures of each scene as the attack observes."""

    @classmethod
    def of_pairs(cls, train: Pairs, val: Pairs) -> View:
        """The view of an attacker that has pairs and nothing else."""
        return cls(train.features, mean_image(train.images), pairs=(train, val))

    @property
    def image_size(self) -> int:
        """R: pixels along an image's side."""
        return len(self.mean_image)

    @property
    def known(self) -> frozenset[Knowledge]:
        """What of ``KNOWLEDGE`` is there."""
        return frozenset(name for name in KNOWLEDGE if getattr(self, name) is not None)

    def only(self, knows: tuple[Knowledge, ...]) -> View:
        """The same view without what an attack does not say it knows."""
        hidden: dict[str, Any] = {name: None for name in KNOWLEDGE if name not in knows}
        return replace(self, **hidden)
