"""An attacker with neither weights nor pairs: he trains a substitute for the encoder and inverts that.

He knows the family of backbones and the cut, has images of another domain, observes features of private
scenes, and knows the mean image of their domain. Substitutes for an encoder that cannot be asked are due to
He et al. (ACSAC 2019, query-free) and to UnSplit, PCAT and FORA; here the substitute is fitted to the
statistics of what was observed (``feature_matching``), its features of foreign images are inverted in closed
form, and that inverse is applied to what was observed. Several substitutes are trained from different
weights. They are averaged by how well they match, and what they do not agree on is taken for unknown: an
attacker who has found nothing then returns the mean image.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...progress import SILENT, Progress
from ..pairs import Pairs
from ..view import Knowledge, View

if TYPE_CHECKING:
    from torch import Tensor

    from ..decoders.model import InversionModel
    from .feature_matching import Mismatch, Observed, Substitute

_RESTARTS = 6
# As many come to a result even if they are cut short.
_LEAST_RESTARTS = 3
# Of the budget, for the matching; the rest is for inverting the substitutes and for what is rebuilt.
_MATCHING_SHARE = 0.75
# A restart that scores so much worse than the best has a weight of 1/e.
_SCORE_SCALE = 0.5
_INVERTED_IMAGES = 600
_AGREEMENT_IMAGES = 200
_VAL_SHARE = 0.2
_BATCH = 64


@dataclass(frozen=True)
class Inverse:
    """The linear reconstruction from one substitute's features. ``offset`` (K, h, w) is added to features in
    the observed units, so that the observed mean map stands for the mean image."""

    model: InversionModel = field(repr=False)
    offset: NDArray[np.float32] = field(repr=False)

    def deviations(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (n, K, h, w) in the observed units -> (n, R, R, 3) less the mean image."""
        import torch

        with torch.inference_mode():
            found = [
                self.model(self.model.lay(units[start : start + _BATCH] + self.offset))
                for start in range(0, len(units), _BATCH)
            ]
        return torch.cat(found).permute(0, 2, 3, 1).cpu().numpy()


@dataclass
class SubstituteInversion:
    """The weighted mean of several inverses, shrunk towards the mean image by ``confidence``."""

    mean_image: NDArray[np.float32] = field(repr=False)
    observed: Observed = field(repr=False)
    inverses: Sequence[Inverse] = field(repr=False)
    weights: NDArray[np.float64]
    """(restarts,) positive, with sum 1."""
    confidence: float
    """0 to 1: how much of the deviation from the mean image is believed."""
    mismatches: Sequence[Mismatch]
    stopped: Literal["converged", "budget"]
    seconds: float

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Features (n, C, h, w) -> images float32 (n, R, R, 3) in [0, 1]."""
        started = time.monotonic()
        images = np.empty((len(features), *self.mean_image.shape), np.float32)
        for start in range(0, len(features), _BATCH):
            part = features[start : start + _BATCH]
            images[start : start + _BATCH] = self.mean_image
            if self.confidence > 0:
                units = self.observed.units_of(part)
                for weight, inverse in zip(self.weights, self.inverses, strict=True):
                    images[start : start + _BATCH] += self.confidence * weight * inverse.deviations(units)
        self.seconds += time.monotonic() - started
        return images.clip(0, 1)

    def document(self) -> dict[str, Any]:
        """For an audit's document; ``restarts`` has each substitute's mismatch and weight."""
        return {
            "seconds": round(self.seconds, 3),
            "pairs": 0,
            "stopped": self.stopped,
            "confidence": self.confidence,
            "restarts": [
                {"weight": float(weight), **asdict(mismatch)}
                for weight, mismatch in zip(self.weights, self.mismatches, strict=True)
            ],
        }


@dataclass(frozen=True)
class SubstituteAttack:
    """The attack."""

    name: str = "substitute"
    knows: tuple[Knowledge, ...] = ("family", "auxiliary")

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> SubstituteInversion:
        """Train the substitutes, one after the other as long as the budget lasts, and invert each.

        Raises ``InputError`` for a budget that is not positive and an accelerator that is not there,
        ``PrivynetError`` for observed features that are not finite.
        """
        import torch

        from ..accelerators import torch_device
        from .feature_matching import Matching, Observed

        assert view.family is not None
        assert view.auxiliary is not None
        if not budget_s > 0:
            raise InputError(f"attack budget {budget_s} s", hint="needed: more than 0 seconds")
        started = time.monotonic()
        device = torch_device(accelerator)
        observed = Observed(view.observed, view.noise_std, device)
        found: list[tuple[Inverse, Mismatch]] = []
        complete = True
        share = _MATCHING_SHARE * budget_s / _LEAST_RESTARTS
        mean = torch.from_numpy(view.mean_image).permute(2, 0, 1).to(device)
        planes = torch.from_numpy(view.auxiliary).permute(0, 3, 1, 2).float().to(device) / 255
        with torch.random.fork_rng(devices=[]), progress.task("substitute", _RESTARTS) as task:
            for number in range(_RESTARTS if len(observed.varying) else 0):
                begun = time.monotonic()
                spent = begun - started
                left = _MATCHING_SHARE * budget_s - spent
                if number and left < 0.8 * min(share, spent / number):
                    complete = False
                    break
                chosen = _RESTARTS * seed + number
                ends = begun + min(share, left)
                torch.manual_seed(chosen)
                matching = Matching(
                    view.family(chosen),
                    observed,
                    planes,
                    mean,
                    seed=chosen,
                    ends=ends,
                )
                complete &= matching.run()
                if matching.mismatch.known:
                    inverse = _invert(matching.substitute, view, planes, mean, seed=chosen)
                    found.append((inverse, matching.mismatch))
                task.advance(note=f"mismatch {matching.mismatch.score():.2f}")
        weights = _weights([mismatch for _, mismatch in found])
        return SubstituteInversion(
            view.mean_image,
            observed,
            [inverse for inverse, _ in found],
            weights,
            _confidence(found, weights, observed),
            [mismatch for _, mismatch in found],
            "converged" if complete else "budget",
            time.monotonic() - started,
        )


SUBSTITUTE = SubstituteAttack()
"""The attack, with its default settings."""


def _invert(substitute: Substitute, view: View, planes: Tensor, mean: Tensor, *, seed: int) -> Inverse:
    """The linear reconstruction from the substitute's features, learned on the foreign images."""
    import torch

    from ..decoders.linear import LinearReconstruction
    from ..decoders.model import InversionModel
    from ..decoders.training import fit_linear

    observed = substitute.observed
    rng = np.random.default_rng(seed)
    planes = planes[rng.permutation(len(planes))[:_INVERTED_IMAGES]]
    shifted = (planes - planes.mean(0) + mean).clamp(0, 1).mul(255).round()
    images = shifted.permute(0, 2, 3, 1).byte().cpu().numpy()
    with torch.inference_mode():
        units = torch.cat([substitute(part / 255) for part in torch.split(shifted, _BATCH)]).cpu().numpy()
    if view.noise_std > 0:
        units += observed.noise.cpu().numpy() * rng.standard_normal(units.shape, np.float32)
    every = Pairs(units, images, np.zeros(len(images), np.int64))
    val = max(1, round(_VAL_SHARE * len(images)))
    train, held_out = _part(every, slice(val, None)), _part(every, slice(val))
    model = InversionModel(train)
    fit_linear(model, LinearReconstruction(model.geometry), train, held_out, rng)
    model.eval().requires_grad_(False)
    return Inverse(model, units.mean(0) - observed.mean_map.cpu().numpy())


def _part(pairs: Pairs, rows: slice) -> Pairs:
    return Pairs(pairs.features[rows], pairs.images[rows], pairs.labels[rows])


def _weights(mismatches: Sequence[Mismatch]) -> NDArray[np.float64]:
    """Weights with sum 1, falling with the score."""
    if not mismatches:
        return np.empty(0)
    curvature = float(np.mean([mismatch.curvature for mismatch in mismatches]))
    scores = np.array([mismatch.score(curvature) for mismatch in mismatches])
    likelihood = np.exp((scores.min() - scores) / _SCORE_SCALE)
    weights: NDArray[np.float64] = likelihood / likelihood.sum()
    return weights


def _confidence(
    found: Sequence[tuple[Inverse, Mismatch]], weights: NDArray[np.float64], observed: Observed
) -> float:
    """How much of what the inverses say together is believed, 0 to 1.

    If the truth is to each inverse what the others are to it, then its part along their mean is their mean
    agreement. One that stands out by its match is believed by itself as far as the substitutes are affine:
    only then does the mean map show that the others are wrong. All of it is scaled by the share of the
    observed mean map that the substitutes explain.
    """
    if not found:
        return 0.0
    units = observed.sample[:_AGREEMENT_IMAGES].cpu().numpy()
    every = np.stack([inverse.deviations(units).ravel() for inverse, _ in found]).astype(np.float64)
    products = every @ every.T
    power = float(weights @ products @ weights)
    if not power > 0:
        return 0.0
    matched = [mismatch for _, mismatch in found]
    curvature = float(weights @ [mismatch.curvature for mismatch in matched])
    unexplained = float(weights @ [mismatch.mean_map for mismatch in matched])
    pattern = observed.pattern
    explained = max(0.0, 1 - unexplained / pattern) if pattern else 1.0
    affine = max(0.0, 1 - curvature / pattern) if pattern else 0.0
    if len(found) == 1:
        return float(explained * affine)
    apart = np.outer(weights, weights)
    np.fill_diagonal(apart, 0)
    agreement = float((apart * products).sum() / apart.sum()) / power if apart.sum() > 0 else 0.0
    even = 1 / len(weights)
    alone = affine * (float(weights @ weights) - even) / (1 - even)
    return float(explained * np.clip(alone + (1 - alone) * agreement, 0, 1))
