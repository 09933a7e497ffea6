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
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...progress import SILENT, Progress
from ..pairs import Pairs
from ..view import Knowledge, View

if TYPE_CHECKING:
    from ..decoders.model import InversionModel
    from .feature_matching import Matching, Mismatch, Observed

_STARTS = 6
# As many of the best are trained to the end; two are started even if there is little time.
_KEPT, _LEAST_STARTS = 3, 2
# Of the budget, until when to start, and until when to train; the rest is for the inverses.
_STARTING_SHARE, _MATCHING_SHARE = 0.35, 0.75
# A restart that scores so much worse than the best has a weight of 1/e.
_SCORE_SCALE = 0.5
_INVERTED_IMAGES = 600
# The private images' variance about their mean may be so many times that of the foreign ones.
_MOST_CONTRAST = 1.5
_AGREEMENT_IMAGES = 200
_VAL_SHARE = 0.2
_BATCH = 64


@dataclass(frozen=True)
class Inverse:
    """The linear reconstruction from one substitute's features.

    ``offset`` (K, h, w) is added to features in the observed units, so that the observed mean map stands for
    the mean image. ``gain``: at most 1, so that images do not come out with more contrast than images have.
    """

    model: InversionModel = field(repr=False)
    offset: NDArray[np.float32] = field(repr=False)
    gain: float = 1.0

    def deviations(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (n, K, h, w) in the observed units -> (n, R, R, 3) less the mean image."""
        import torch

        with torch.inference_mode():
            found = [
                self.model(self.model.lay(units[start : start + _BATCH] + self.offset))
                for start in range(0, len(units), _BATCH)
            ]
        images: NDArray[np.float32] = (self.gain * torch.cat(found)).permute(0, 2, 3, 1).cpu().numpy()
        return images


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
        from .feature_matching import Observed

        assert view.family is not None
        assert view.auxiliary is not None
        if not budget_s > 0:
            raise InputError(f"attack budget {budget_s} s", hint="needed: more than 0 seconds")
        started = time.monotonic()
        device = torch_device(accelerator)
        observed = Observed(view.observed, view.noise_std, device)
        matchings: list[Matching] = []
        complete = True
        with torch.random.fork_rng(devices=[]), progress.task("substitute: matching"):
            if len(observed.varying):
                matchings, complete = _matched(view, observed, seed=seed, started=started, budget_s=budget_s)
            inverses = [_invert(matching, view, seed=seed) for matching in matchings]
        mismatches = [matching.mismatch for matching in matchings]
        weights = _weights(mismatches)
        return SubstituteInversion(
            view.mean_image,
            observed,
            inverses,
            weights,
            _confidence(inverses, mismatches, weights, view, observed),
            mismatches,
            "converged" if complete else "budget",
            time.monotonic() - started,
        )


SUBSTITUTE = SubstituteAttack()
"""The attack, with its default settings."""


def _matched(
    view: View, observed: Observed, *, seed: int, started: float, budget_s: float
) -> tuple[list[Matching], bool]:
    """The substitutes that match best, and whether all of them were trained to the end."""
    import torch

    from .feature_matching import Matching, scores

    assert view.family is not None
    assert view.auxiliary is not None
    device = observed.centre.device
    mean = torch.from_numpy(view.mean_image).permute(2, 0, 1).to(device)
    planes = torch.from_numpy(view.auxiliary).permute(0, 3, 1, 2).float().to(device) / 255
    ends = started + _MATCHING_SHARE * budget_s
    every: list[Matching] = []
    for number in range(_STARTS):
        if number >= _LEAST_STARTS and time.monotonic() > started + _STARTING_SHARE * budget_s:
            break
        chosen = _STARTS * seed + number
        torch.manual_seed(chosen)
        matching = Matching(view.family(chosen), observed, planes, mean, seed=chosen)
        # the first leaves time for a second
        soon = ends if number else started + _MATCHING_SHARE / 2 * budget_s
        matching.start(soon)
        matching.advance(soon)
        every.append(matching)
    complete = len(every) == _STARTS
    every = [matching for matching in every if matching.mismatch.known]
    if not every:
        return [], complete
    order = np.argsort(scores([matching.mismatch for matching in every]), kind="stable")
    kept = [every[place] for place in order[:_KEPT]]
    while time.monotonic() <= ends and not all(matching.converged for matching in kept):
        for matching in kept:
            if not matching.converged and time.monotonic() <= ends:
                matching.advance(ends)
    return kept, complete and all(matching.converged for matching in kept)


def _invert(matching: Matching, view: View, *, seed: int) -> Inverse:
    """The linear reconstruction from the substitute's features, learned on the foreign images."""
    import torch

    from ..decoders.linear import LinearReconstruction
    from ..decoders.model import InversionModel
    from ..decoders.training import fit_linear

    observed = matching.observed
    rng = np.random.default_rng(seed)
    planes = matching.planes[rng.permutation(len(matching.planes))[:_INVERTED_IMAGES]]
    shifted = (planes - planes.mean(0) + matching.mean).clamp(0, 1).mul(255).round()
    images = shifted.permute(0, 2, 3, 1).byte().cpu().numpy()
    with torch.inference_mode():
        parts = [matching.substitute(part / 255) for part in torch.split(shifted, _BATCH)]
    units = torch.cat(parts).cpu().numpy()
    if view.noise_std > 0:
        units += observed.noise.cpu().numpy() * rng.standard_normal(units.shape, np.float32)
    every = Pairs(units, images, np.zeros(len(images), np.int64))
    val = max(1, round(_VAL_SHARE * len(images)))
    train, held_out = _part(every, slice(val, None)), _part(every, slice(val))
    model = InversionModel(train)
    fit_linear(model, LinearReconstruction(model.geometry), train, held_out, rng)
    model.eval().requires_grad_(False)
    inverse = Inverse(model, units.mean(0) - observed.mean_map.cpu().numpy())
    rebuilt = inverse.deviations(observed.sample[:_AGREEMENT_IMAGES].cpu().numpy())
    most = _MOST_CONTRAST * float((shifted / 255 - matching.mean).square().mean())
    return replace(inverse, gain=min(1.0, float(np.sqrt(most / max(1e-12, np.square(rebuilt).mean())))))


def _part(pairs: Pairs, rows: slice) -> Pairs:
    return Pairs(pairs.features[rows], pairs.images[rows], pairs.labels[rows])


def _weights(mismatches: Sequence[Mismatch]) -> NDArray[np.float64]:
    """Weights with sum 1, falling with the score."""
    from .feature_matching import scores

    if not mismatches:
        return np.empty(0)
    scored = scores(mismatches)
    likelihood = np.exp((scored.min() - scored) / _SCORE_SCALE)
    weights: NDArray[np.float64] = likelihood / likelihood.sum()
    return weights


def _confidence(
    inverses: Sequence[Inverse],
    mismatches: Sequence[Mismatch],
    weights: NDArray[np.float64],
    view: View,
    observed: Observed,
) -> float:
    """How much of what the inverses say together is believed, 0 to 1.

    If the truth is to each inverse what the others are to it, then its part along their mean is their mean
    agreement. One that stands out by its match is believed by itself as far as the mean map alone determines
    it (``_determined``). All of it is scaled by the square of the share of the observed mean map that is
    explained: those that matched best agree in their errors too, and must not be believed for that.
    """
    if not inverses:
        return 0.0
    units = observed.sample[:_AGREEMENT_IMAGES].cpu().numpy()
    every = np.stack([inverse.deviations(units).ravel() for inverse in inverses]).astype(np.float64)
    products = every @ every.T
    power = float(weights @ products @ weights)
    if not power > 0:
        return 0.0
    curvature = float(weights @ [mismatch.curvature for mismatch in mismatches])
    unexplained = float(weights @ [mismatch.mean_map for mismatch in mismatches])
    explained = max(0.0, 1 - unexplained / observed.pattern) if observed.pattern > 0 else 1.0
    determined = _determined(view, unexplained + curvature)
    apart = np.outer(weights, weights)
    np.fill_diagonal(apart, 0)
    agreement = float((apart * products).sum() / apart.sum()) / power if apart.sum() > 0 else 0.0
    even = 1 / len(weights)
    alone = determined * ((float(weights @ weights) - even) / (1 - even) if even < 1 else 1.0)
    return float(explained**2 * np.clip(alone + (1 - alone) * agreement, 0, 1))


def _determined(view: View, mismatch: float) -> float:
    """How far a mean map that matches but for ``mismatch`` determines an affine encoder, 0 to 1.

    An error dw of a channel's weights for the colours moves its mean map by dw'Mdw and its variance, 1, by
    dw'Vdw, M and V the covariances of the colours in the mean image and in images: where a direction of
    colours hardly varies in the mean image, its weight is free.
    """
    assert view.auxiliary is not None
    images = view.auxiliary[:_AGREEMENT_IMAGES].astype(np.float64) / 255
    in_mean = np.cov(view.mean_image.reshape(-1, 3).astype(np.float64), rowvar=False)
    in_images = np.cov((images - images.mean(0)).reshape(-1, 3), rowvar=False)
    free = float(np.trace(np.linalg.solve(in_mean + 1e-12 * np.eye(3), in_images)))
    return max(0.0, 1 - mismatch * free)
