"""Whether features still say anything: NoPeek can win by making the encoder send the same thing always."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

RANK_KEPT = 0.1
"""A collapse: less than this share of the effective rank is left."""
STD_KEPT = 0.1
"""A collapse: the median channel varies less than this share of what it did."""
CHANNELS_DEAD = 0.5
"""A collapse: more than this share of the channels that varied is dead."""
DEAD_STD = 0.01
"""A channel is dead when it varies less than this share of what it did."""


@dataclass(frozen=True)
class Spread:
    """How much features vary over n images.

    ``std``: float64 (C,), each channel's standard deviation over images and positions. ``effective_rank``:
    that of the features' covariance (C*h*w, C*h*w), exp(entropy of its eigenvalues over their sum) (Roy and
    Vetterli 2007); 0 where nothing varies. At most n - 1, so compare equal n only.
    """

    std: NDArray[np.float64] = field(repr=False)
    effective_rank: float
    n: int

    @classmethod
    def of(cls, features: NDArray[np.floating[Any]]) -> Spread:
        """Of features (n, C, h, w). Raises ``InputError`` for fewer than two images."""
        if features.ndim != 4 or len(features) < 2:
            raise InputError(f"features of shape {features.shape}", hint="needed: (n, C, h, w), n above 1")
        values = np.asarray(features, np.float32)
        rows = values.reshape(len(values), -1)
        rows = rows - rows.mean(0, dtype=np.float64).astype(np.float32)
        # the smaller of the two products has the same eigenvalues but for zeros
        product = (rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows).astype(np.float64)
        eigenvalues = np.linalg.eigvalsh(product).clip(0)
        std = values.std((0, 2, 3), dtype=np.float64)
        # no more than the rounding of single precision
        if not eigenvalues.sum() > 1e-12 * np.square(values, dtype=np.float64).sum():
            return cls(std, 0.0, len(values))
        share = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
        return cls(std, float(np.exp(-(share * np.log(share)).sum())), len(values))


@dataclass(frozen=True)
class Collapse:
    """The spread of an encoder's features before and after it was changed, over the same images."""

    before: Spread
    after: Spread

    @property
    def varied(self) -> NDArray[np.bool_]:
        """(C,) the channels that varied before."""
        found: NDArray[np.bool_] = self.before.std > 1e-6 * self.before.std.max()
        return found

    @property
    def relative_std(self) -> NDArray[np.float64]:
        """(C,) standard deviation after over before; 0 for a channel that never varied."""
        varied = self.varied
        return np.where(varied, self.after.std / np.where(varied, self.before.std, 1), 0.0)

    @property
    def relative_rank(self) -> float:
        """Effective rank after over before."""
        return self.after.effective_rank / max(self.before.effective_rank, 1e-12)

    @property
    def dead(self) -> float:
        """The share of the channels that varied before and hardly vary any more."""
        varied = self.varied
        return float((self.relative_std[varied] < DEAD_STD).mean()) if varied.any() else 0.0

    def warnings(self) -> list[str]:
        """What of it is a collapse, in sentences."""
        found = []
        if self.relative_rank < RANK_KEPT:
            found.append(
                f"the features have collapsed: effective rank {self.after.effective_rank:.1f}, before "
                f"{self.before.effective_rank:.1f} (less than {RANK_KEPT:.0%} is left)"
            )
        varied = self.relative_std[self.varied]
        if len(varied) and np.median(varied) < STD_KEPT:
            found.append(
                f"the features have collapsed: the median channel varies {np.median(varied):.2%} of what it "
                f"did (less than {STD_KEPT:.0%})"
            )
        if self.dead > CHANNELS_DEAD:
            found.append(f"the features have collapsed: {self.dead:.0%} of the channels are dead")
        return found

    def document(self) -> dict[str, Any]:
        """Figures, thresholds and n."""
        varied = self.relative_std[self.varied]
        return {
            "n": self.after.n,
            "effective_rank": {"before": self.before.effective_rank, "after": self.after.effective_rank},
            "relative_std": {
                "median": float(np.median(varied)) if len(varied) else 0.0,
                "min": float(varied.min()) if len(varied) else 0.0,
                "max": float(varied.max()) if len(varied) else 0.0,
                "per_channel": [round(float(value), 6) for value in self.relative_std],
            },
            "constant_channels_before": float(1 - self.varied.mean()),
            "dead_channels": self.dead,
            "thresholds": {
                "effective_rank_kept": RANK_KEPT,
                "median_std_kept": STD_KEPT,
                "channels_dead": CHANNELS_DEAD,
                "dead_std": DEAD_STD,
            },
            "collapsed": bool(self.warnings()),
        }
