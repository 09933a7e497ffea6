"""Training a substitute encoder until the statistics of its features are those of the observed ones.

Three statistics, in units of the observed channels' standard deviations: the mean map, the covariances of
channels at the same and at neighbouring places, and the distribution of values along random directions
(sliced Wasserstein distance, Bonneel et al. 2015). The images are of another domain, so that covariances
and distributions can agree only roughly. Their mean is another matter: each batch is shifted to the known
mean image of the private domain, and what an affine encoder makes of the mean image is the mean of what it
makes of the images, whatever their domain. So the better the mean maps agree and the nearer to affine the
substitute is, the more they count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import PrivynetError

# Adam comes near, L-BFGS gets there: the mean map alone is badly conditioned, its channels are much alike.
_ADAM_STEPS, _ADAM_BATCH = 40, 32
_ADAM_RATE = 0.03
_ADAM_MEAN_WEIGHT = 10.0
# L-BFGS goes in rounds, each with new images, until a round improves the score by less than this.
_MOST_ROUNDS, _SPELLS, _SPELL = 12, 4, 10
_IMPROVEMENT = 0.1
_BATCH = 64
_FIRST_MEAN_WEIGHT = 1e3
_MOST_MEAN_WEIGHT = 1e7
# The mean map has many more values than the other statistics have.
_MEAN_SHARE = 4.0
# A relative mismatch that another domain explains: smaller ones say nothing. That of the mean maps is
# relative to what makes them depend on the domain: how far the features' mean is from the mean's features.
_TOLERANCE = 0.1
_DIRECTIONS, _PLACES = 16, 1024
_MOST_VALUES = 20_000_000
_MOST_IMAGES = 1000
_READ = 256


class Observed:
    """Statistics of the features that were observed, (n, C, h, w), over the channels that vary.

    ``noise_std``: of the Gaussian noise in them, which the covariances are freed of.
    """

    def __init__(self, features: NDArray[np.floating], noise_std: float, device: torch.device) -> None:
        count = len(features)
        total = np.zeros(features.shape[1:], np.float64)
        squares = np.zeros(features.shape[1], np.float64)
        for start in range(0, count, _READ):
            part = np.asarray(features[start : start + _READ], np.float64)
            total += part.sum(0)
            squares += np.square(part).sum((0, 2, 3))
        if not np.isfinite(squares).all():
            raise PrivynetError("the features are not finite", hint="check the encoder's input scaling")
        values = count * features.shape[2] * features.shape[3]
        mean = total.sum((1, 2)) / values
        variance = squares / values - mean**2
        # below this share of the mean square a variance is rounding error, below the noise's it is noise
        self.varying = np.flatnonzero(variance > 1e-8 * squares / values + 1.02 * noise_std**2)
        """Positions (K,) of the channels that vary with the image."""
        if not len(self.varying):
            return
        spread = np.sqrt(variance[self.varying])
        self.centre = _tall(mean[self.varying], device)
        self.spread = _tall(spread, device)
        self.noise = noise_std / self.spread
        mean_map = torch.from_numpy(total[self.varying] / count).float().to(device)
        self.mean_map = (mean_map - self.centre) / self.spread
        self.pattern = float(self.mean_map.sub(self.mean_map.mean((1, 2), keepdim=True)).square().mean())
        """Variance of the mean map over places."""
        rows = min(count, _MOST_IMAGES, max(_BATCH, _MOST_VALUES // features[0].size))
        chosen = np.linspace(0, count - 1, rows).astype(np.int64)
        sample = torch.from_numpy(np.asarray(features[chosen], np.float32)[:, self.varying]).to(device)
        self.sample = (sample - self.centre) / self.spread
        self.covariances = covariances(self.sample)
        self.covariances[0] -= torch.diag(self.noise.flatten().square())

    def units(self, features: Tensor) -> Tensor:
        """Features (n, C, h, w) -> the channels that vary, (n, K, h, w), in units of their spread."""
        return (features[:, self.varying] - self.centre) / self.spread

    def units_of(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """``units`` for arrays."""
        with torch.inference_mode():
            part = torch.from_numpy(np.array(features, np.float32)).to(self.centre.device)
            found: NDArray[np.float32] = self.units(part).cpu().numpy()
        return found


def _tall(values: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(values).float().to(device)[:, None, None]


def covariances(units: Tensor) -> Tensor:
    """(n, K, h, w) -> (3, K, K): of channels at a place, with its right and with its lower neighbour."""
    rest = units - units.mean((0, 2, 3), keepdim=True)
    pairs = [(rest, rest), (rest[..., :-1], rest[..., 1:]), (rest[..., :-1, :], rest[..., 1:, :])]
    found = []
    for first, second in pairs:
        if not first.numel():
            first, second = rest, rest
        a, b = (part.transpose(0, 1).flatten(1) for part in (first, second))
        found.append(a @ b.T / a.shape[1])
    return torch.stack(found)


@dataclass(frozen=True)
class Mismatch:
    """Mean squared differences of the three statistics."""

    mean_map: float
    covariances: float
    values: float
    curvature: float
    """Of the substitute: the same between the mean of its features and its features of the mean image."""

    @property
    def weights(self) -> tuple[float, float, float]:
        """What each counts for from here on: so much that all have the same say."""
        mean_weight = _MEAN_SHARE / (self.mean_map + _TOLERANCE * self.curvature + 1 / _MOST_MEAN_WEIGHT)
        return mean_weight, 1 / (self.covariances + _TOLERANCE), 1 / (self.values + _TOLERANCE)

    @property
    def known(self) -> bool:
        """Whether it was measured, and is finite."""
        return math.isfinite(self.mean_map + self.covariances + self.values)

    def score(self, curvature: float) -> float:
        """The lower the better: minus the logarithm of a likelihood in which the scales are unknown.

        ``curvature``: what mean maps are tolerated by; the same for scores that are compared.
        """
        return (
            _MEAN_SHARE * math.log(self.mean_map + _TOLERANCE * curvature + 1 / _MOST_MEAN_WEIGHT)
            + math.log(self.covariances + _TOLERANCE)
            + math.log(self.values + _TOLERANCE)
        )


def scores(mismatches: Sequence[Mismatch]) -> NDArray[np.float64]:
    """Scores (n,) that can be compared."""
    curvature = float(np.mean([mismatch.curvature for mismatch in mismatches]))
    return np.array([mismatch.score(curvature) for mismatch in mismatches])


class Substitute(nn.Module):
    """An encoder of the family with a trainable gain for each channel, so that it starts at the right scale.

    In most families the gain is no freedom that the last layer's weights do not have.
    """

    def __init__(self, encoder: nn.Module, images: Tensor, observed: Observed) -> None:
        super().__init__()
        self.encoder, self.observed = encoder, observed
        with torch.no_grad():
            features = encoder(images)[:, observed.varying]
            overall = float(features.std())
            spread = features.std((0, 2, 3), keepdim=True).clamp_min(max(0.03 * overall, 1e-12))
        self.log_gain = nn.Parameter((observed.spread / spread[0]).log())

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 3, R, R) -> (n, K, h, w) in the observed units."""
        features = self.encoder(images)[:, self.observed.varying] * self.log_gain.exp()
        units: Tensor = (features - self.observed.centre) / self.observed.spread
        return units

    @property
    def groups(self) -> list[dict[str, object]]:
        """What to train, with learning rates relative to the weights' size."""
        found: list[dict[str, object]] = []
        for weight in self.parameters():
            if weight.requires_grad:
                size = 0.3 if weight.ndim < 2 else float(weight.detach().square().mean().sqrt())
                size = 0.3 if weight is self.log_gain else size
                found.append({"params": [weight], "lr": _ADAM_RATE * size, "full": _ADAM_RATE * size})
        return found


@dataclass(frozen=True)
class _Draw:
    """What one evaluation looks at."""

    images: Tensor
    places: Tensor
    """Positions at which values are taken, counted through images and places."""
    directions: Tensor
    noise: Tensor
    """(K, places) what the encoder adds."""
    seen: Tensor
    """(directions, places) the observed values, sorted."""


class Matching:
    """One substitute on its way.

    ``planes``: float32 (m, 3, R, R), of another domain; ``mean``: (3, R, R). Until ``start`` and the first
    round are over, ``mismatch`` is not known.
    """

    def __init__(
        self, encoder: nn.Module, observed: Observed, planes: Tensor, mean: Tensor, *, seed: int
    ) -> None:
        self.observed, self.planes, self.mean = observed, planes, mean
        self.generator = torch.Generator().manual_seed(seed)
        self.substitute = Substitute(encoder.to(planes.device), self._images(_BATCH), observed)
        self.mismatch = Mismatch(math.inf, math.inf, math.inf, 0.0)
        self.rounds = 0
        self.converged = False

    def start(self, ends: float) -> None:
        """Come near by Adam, until ``time.monotonic()`` is ``ends`` at the latest."""
        optimizer = torch.optim.Adam(self.substitute.groups, betas=(0.9, 0.98))
        for step in range(_ADAM_STEPS):
            if time.monotonic() > ends:
                return
            falling = 0.5 * (1 + math.cos(math.pi * step / _ADAM_STEPS))
            for group in optimizer.param_groups:
                group["lr"] = group["full"] * min(1.0, (step + 1) / 10) * falling
            terms = self._terms(self._draw(_ADAM_BATCH))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(_ADAM_MEAN_WEIGHT * terms[0] + terms[1] + terms[2])
            optimizer.step()

    def advance(self, ends: float) -> None:
        """One round of L-BFGS, until ``ends`` at the latest; sets ``converged`` when another gains little."""
        weights = self.mismatch.weights if self.rounds else (_FIRST_MEAN_WEIGHT, 1.0, 1.0)
        trained = [weight for weight in self.substitute.parameters() if weight.requires_grad]
        draw = self._draw(_BATCH)
        optimizer = torch.optim.LBFGS(
            trained,
            max_iter=_SPELL,
            history_size=30,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-9,
            tolerance_change=1e-9,
        )
        for _ in range(_SPELLS):
            if time.monotonic() > ends:
                break
            kept = [weight.detach().clone() for weight in trained]
            optimizer.step(partial(self._loss, optimizer, draw, weights))  # type: ignore[no-untyped-call]
            if not all(bool(torch.isfinite(weight).all()) for weight in trained):
                with torch.no_grad():
                    for weight, value in zip(trained, kept, strict=True):
                        weight.copy_(value)
                break
        before, self.mismatch = self.mismatch, self._measured(draw)
        self.rounds += 1
        gain = before.score(before.curvature) - self.mismatch.score(self.mismatch.curvature)
        if time.monotonic() <= ends:
            self.converged = not gain > _IMPROVEMENT or self.rounds >= _MOST_ROUNDS

    def _measured(self, draw: _Draw) -> Mismatch:
        with torch.no_grad():
            mean_map, second, values = (float(term) for term in self._terms(draw))
            of_mean, mean_of = self.substitute(self.mean[None])[0], self.substitute(draw.images).mean(0)
            return Mismatch(mean_map, second, values, float((of_mean - mean_of).square().mean()))

    def _loss(
        self, optimizer: torch.optim.Optimizer, draw: _Draw, weights: tuple[float, float, float]
    ) -> float:
        """The weighted sum, with its gradients."""
        optimizer.zero_grad(set_to_none=True)
        mean_map, second, values = self._terms(draw)
        loss = weights[0] * mean_map + weights[1] * second + weights[2] * values
        torch.autograd.backward(loss)
        return float(loss.detach())

    def _terms(self, draw: _Draw) -> tuple[Tensor, Tensor, Tensor]:
        """The three mean squared differences."""
        observed, units = self.observed, self.substitute(draw.images)
        along = draw.directions @ (units.transpose(0, 1).flatten(1)[:, draw.places] + draw.noise)
        return (
            (units.mean(0) - observed.mean_map).square().mean(),
            (covariances(units) - observed.covariances).square().sum((1, 2)).mean() / units.shape[1],
            (along.sort(1).values - draw.seen).square().mean(),
        )

    def _draw(self, count: int) -> _Draw:
        observed, device, generator = self.observed, self.planes.device, self.generator
        channels, height, width = observed.mean_map.shape
        directions = torch.randn((_DIRECTIONS, channels), generator=generator)
        places = torch.randint(count * height * width, (_PLACES,), generator=generator)
        noise = torch.randn((channels, _PLACES), generator=generator).to(device) * observed.noise.flatten(1)
        directions = (directions / directions.norm(dim=1, keepdim=True)).to(device)
        rows = torch.randint(len(observed.sample), (count,), generator=generator).to(device)
        seen = observed.sample[rows].transpose(0, 1).flatten(1)[:, places.to(device)]
        seen = (directions @ seen).sort(1).values
        return _Draw(self._images(count), places.to(device), directions, noise, seen)

    def _images(self, count: int) -> Tensor:
        """Images drawn at random, half of the time mirrored, shifted to the known mean image."""
        drawn = torch.randint(len(self.planes), (count,), generator=self.generator)
        images = self.planes[drawn.to(self.planes.device)]
        if float(torch.rand((), generator=self.generator)) < 0.5:
            images = images.flip(3)
        return images - images.mean(0) + self.mean
