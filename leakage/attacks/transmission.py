"""What happens to features on their way to the cloud, so that an attacker can imitate it on his own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_LEVELS = 256
_SAMPLE_IMAGES = 200
_EVEN = 1e-2
# A channel that hardly varies says little: below this share of the root mean square it is not amplified.
_LEAST_SCALE = 0.03


@dataclass(frozen=True)
class Transmission:
    """Gaussian noise, then rounding to ``levels`` (ascending; ``None``: not quantised)."""

    noise_std: float = 0.0
    levels: NDArray[np.float32] | None = field(default=None, repr=False)

    @classmethod
    def seen_in(cls, observed: NDArray[Any], noise_std: float = 0.0) -> Transmission:
        """Read off features as the cloud has them, (n, C, h, w): are their values on an even grid?"""
        values = np.unique(np.asarray(observed[:_SAMPLE_IMAGES], np.float32))
        if not 2 <= len(values) <= _MOST_LEVELS:
            return cls(noise_std)
        span = float(values[-1]) - float(values[0])
        # the smallest difference is off by rounding; how many of it there are is not
        step = span / max(1, round(span / float(np.diff(values).min())))
        places = (values.astype(np.float64) - float(values[0])) / step
        rounding = 4 * float(np.spacing(np.abs(values).max())) / step
        if places[-1] > _MOST_LEVELS or np.abs(places - np.rint(places)).max() > max(_EVEN, rounding):
            return cls(noise_std)
        grid = np.linspace(float(values[0]), float(values[-1]), round(float(places[-1])) + 1)
        return cls(noise_std, grid.astype(np.float32))

    def apply(self, features: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
        """The encoder's features as the cloud would have them."""
        sent = np.asarray(features, np.float32)
        if self.noise_std:
            sent = sent + np.float32(self.noise_std) * rng.standard_normal(sent.shape, dtype=np.float32)
        if self.levels is not None:
            sent = self.levels[np.searchsorted((self.levels[1:] + self.levels[:-1]) / 2, sent)]
        return sent

    @property
    def exact(self) -> bool:
        """Whether features arrive as they were sent."""
        return not self.noise_std and self.levels is None

    def channel_scale(self, observed: NDArray[Any]) -> NDArray[np.float32]:
        """What differences in each channel are measured in, float32 (C,).

        The channels' standard deviations where features arrive exactly; else one for all of them, as noise
        and rounding are the same in all.
        """
        sample = np.asarray(observed[:1000], np.float32)
        variance = sample.var(axis=(0, 2, 3), dtype=np.float64)
        root = float(np.sqrt(variance.mean()))
        if not root > 0:
            return np.ones(sample.shape[1], np.float32)
        if not self.exact:
            return np.full(len(variance), root, np.float32)
        return np.asarray(np.maximum(np.sqrt(variance), _LEAST_SCALE * root), np.float32)
