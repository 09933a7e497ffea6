"""A figure over images with its spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PrivynetError

_RESAMPLES = 1000
_BLOCK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval over ``n`` images."""

    value: float
    ci95: tuple[float, float]
    n: int

    @classmethod
    def mean(cls, samples: ArrayLike, seed: int = 0) -> Score:
        """The mean of one figure per image, (n,); the interval from the bootstrap over images.

        Raises ``ValueError`` for no samples or one that is not finite.
        """
        values = _finite(samples)
        resampled = _resampled_sums(values[None], seed)[0] / len(values)
        return cls(float(values.mean()), _interval(resampled), len(values))

    @classmethod
    def r2(cls, squared_errors: ArrayLike, blind_squared_errors: ArrayLike, seed: int = 0) -> Score:
        """1 - total squared error / total squared error of the blind guess, each (n,), one figure per image.

        Raises ``ValueError`` for no samples, unequal lengths or one that is not finite, and ``PrivynetError``
        when the blind guess is right about every image, which leaves nothing to explain.
        """
        errors, blind = _finite(squared_errors), _finite(blind_squared_errors)
        if len(errors) != len(blind):
            raise ValueError(f"{len(errors)} squared errors but {len(blind)} of the blind guess")
        if not blind.sum() > 0:
            raise PrivynetError(
                "r2 is undefined: every test image equals the mean training image",
                hint="use images that differ",
            )
        error_sums, blind_sums = _resampled_sums(np.stack([errors, blind]), seed)
        defined = blind_sums > 0
        return cls(
            float(1 - errors.sum() / blind.sum()),
            _interval(1 - error_sums[defined] / blind_sums[defined]),
            len(errors),
        )

    def document(self) -> dict[str, Any]:
        """As the JSON object that every result uses."""
        return {"value": self.value, "ci95": list(self.ci95), "n": self.n}


def _finite(samples: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(samples, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"expected finite samples of shape (n,), n > 0, not shape {values.shape}")
    return values


def _resampled_sums(rows: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Sums of each row (k, n) over bootstrap resamples that all rows share: (k, resamples)."""
    n = rows.shape[1]
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_ELEMENTS // n)
    sums = []
    for start in range(0, _RESAMPLES, block):
        drawn = generator.integers(n, size=(min(block, _RESAMPLES - start), n))
        sums.append(np.stack([row[drawn].sum(axis=1) for row in rows]))
    return np.concatenate(sums, axis=1)


def _interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)
