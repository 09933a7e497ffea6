"""What the encoder of a candidate would send, from cached features of the whole cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ...artifacts import Payload
from ...defences import features_std
from ..space import Selection

_AS_IT_IS = Payload()
_BATCH = 256


@dataclass(frozen=True)
class Sending:
    """A selection of a cut's channels, the noise on each value, and the payload format.

    Kept channels are in the order of the encoder's output.
    """

    selection: Selection
    noise_std: float = 0.0
    payload: Payload = _AS_IT_IS

    @classmethod
    def fit(
        cls,
        selection: Selection,
        whole: Callable[[], NDArray[Any]],
        *,
        noise_share: float,
        bits: int,
        seed: int,
    ) -> Sending:
        """``noise_share``: of the selected features' standard deviation (``defences.features_std``).

        ``whole``: gives features (n, C, h, w) to fit the noise's scale and the payload's grid on; not called
        where there is nothing to fit.
        """
        if not noise_share and bits == _AS_IT_IS.bits:
            return cls(selection)
        sent = _selected(whole(), selection).astype(np.float32)
        # Three digits, so that it reproduces.
        noise_std = float(f"{noise_share * features_std(sent):.2e}")
        if noise_std:
            sent = sent + np.float32(noise_std) * _noise(sent.shape, seed)
        payload = Payload.fit(sent, cast(Literal[32, 8, 4, 2], bits))
        return cls(selection, noise_std, payload)

    @property
    def error_std(self) -> float:
        """Standard deviation of what noise and rounding add to each value."""
        rounding = self.payload.scale if self.payload.quantised else 0.0
        return float(np.hypot(self.noise_std, rounding / np.sqrt(12)))

    def features(self, whole: NDArray[Any], *, seed: int) -> NDArray[Any]:
        """What the cloud reads of features (n, C, h, w) of the whole cut: (n, D', h, w), float16 or float32.

        Noise is drawn with ``seed``.
        """
        if not self.noise_std and not self.payload.quantised:
            return _selected(whole, self.selection)
        shape = (len(whole), len(self.selection), *whole.shape[2:])
        result = np.empty(shape, np.float16 if whole.dtype == np.float16 else np.float32)
        for start in range(0, len(whole), _BATCH):
            sent = _selected(whole[start : start + _BATCH], self.selection).astype(np.float32)
            if self.noise_std:
                sent += np.float32(self.noise_std) * _noise(sent.shape, (seed, start))
            if self.payload.quantised:
                sent = self.payload.dequantise(self.payload.quantise(sent))
            result[start : start + _BATCH] = sent
        return result


def _selected(whole: NDArray[Any], selection: Selection) -> NDArray[Any]:
    if isinstance(selection, tuple):
        if selection == tuple(range(whole.shape[1])):
            return whole
        return np.ascontiguousarray(whole[:, list(selection)])
    result = np.empty((len(whole), len(selection), *whole.shape[2:]), whole.dtype)
    for start in range(0, len(whole), _BATCH):
        part = whole[start : start + _BATCH].astype(np.float32)
        result[start : start + _BATCH] = np.einsum("dc,nchw->ndhw", selection, part, optimize=True)
    return result


def _noise(shape: tuple[int, ...], seed: int | Sequence[int]) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)
