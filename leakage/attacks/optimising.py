"""Rebuilding images by optimising them, many at once: the part that the white-box attacks share.

An image x is sought that minimises

    mean(((f(x) - z) / s)^2) + tv * TV(x - mean image) + pull * mean((x - x0)^2 / v),

f the encoder, z what it sent, s a scale per channel, x0 and v an estimate of the image and the variance of
its error per pixel (He et al., ACSAC 2019, regularised maximum likelihood; the last term makes it a maximum
a posteriori estimate). Adam with a falling rate, projected to [0, 1]. The terms of different images are only
summed and Adam works element by element, so that each image is rebuilt from its own features alone.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..accelerators import torch_device
from ..view import FeatureMap

LADDER = (10, 30, 100, 300)
"""Numbers of steps to choose from; the last is where little improves any more."""
_BATCH = 64
_RATE = 0.03
_BETAS = (0.9, 0.99)
# After so many steps without this relative improvement an image's rate is multiplied by _DECAY, so often.
_PATIENCE = 20
_IMPROVEMENT = 5e-3
_DECAY = 0.4
_LEAST_RATE = _DECAY**4.5
# A residual in units of the features' variance at which an image counts as found.
_FOUND = 1e-6
_LOOK_EVERY = 10
_TV_SMOOTHING = 1e-3
# So many recipes go on to be tried with more steps.
_KEPT = 4


@dataclass(frozen=True)
class Recipe:
    """How to optimise: the weights above, how many steps, and whether to start at x0 or the mean image."""

    steps: int
    tv: float = 0.0
    pull: float = 0.0
    from_estimate: bool = False


@dataclass(frozen=True)
class Tuned:
    """For each number of steps that was tried the best recipe, and its mean squared error; ascending."""

    recipes: tuple[tuple[Recipe, float], ...]
    seconds_per_step: float
    """For one image."""
    complete: bool = True
    """Whether there was time to try as many steps as can be of use."""

    def choose(self, images: int, seconds: float) -> tuple[Recipe, bool]:
        """The best recipe that ``seconds`` are enough for, and whether more time would have changed it."""
        best = min(self.recipes, key=_error)[0]
        allowed = [pair for pair in self.recipes if pair[0].steps * images * self.seconds_per_step <= seconds]
        chosen = min(allowed or self.recipes[:1], key=_error)[0]
        return chosen, chosen != best or not self.complete

    @property
    def psnr_db(self) -> float:
        """10 log10(1 / mean squared error) of the best recipe on the images it was tuned on."""
        return -10 * math.log10(max(1e-6, min(map(_error, self.recipes))))


def _error(pair: tuple[Recipe, float]) -> float:
    return pair[1]


class Optimiser:
    """Optimises images for one encoder.

    ``mean_image``: float32 (R, R, 3) in [0, 1]. ``scale``: s, float (C,). ``variance``: v, float (R, R, 3).
    A feature map that is no module computes on the CPU.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        mean_image: NDArray[np.float32],
        scale: NDArray[np.floating],
        *,
        variance: NDArray[np.floating] | None = None,
        accelerator: str = "auto",
    ) -> None:
        self.feature_map, self.device = on_device(feature_map, accelerator)
        self.mean = _planes(mean_image[None], self.device)
        self.scale = torch.from_numpy(scale.astype(np.float32)).to(self.device)[:, None, None]
        self.precision = None
        if variance is not None:
            self.precision = 1 / _planes(variance[None].astype(np.float32), self.device)

    def rebuild(
        self,
        features: NDArray[np.floating],
        recipes: Recipe | Sequence[Recipe],
        *,
        estimates: NDArray[np.float32] | None = None,
        mean_image: NDArray[np.float32] | None = None,
        seconds: float = math.inf,
    ) -> tuple[NDArray[np.float32], bool, int]:
        """Features (n, C, h, w) -> images (n, R, R, 3), whether the clock ended it, and the most steps taken.

        One recipe for all, or one an image with the same number of steps. ``estimates``: x0, float32
        (n, R, R, 3). ``mean_image`` stands in for the optimiser's own.
        """
        mean = self.mean if mean_image is None else _planes(mean_image[None], self.device)
        each = [recipes] * len(features) if isinstance(recipes, Recipe) else list(recipes)
        out = np.empty((len(features), *mean.permute(0, 2, 3, 1).shape[1:]), np.float32)
        started, late, most = time.monotonic(), False, 0
        for start in range(0, len(features), _BATCH):
            rows = slice(start, start + _BATCH)
            targets = torch.from_numpy(np.array(features[rows], np.float32)).to(self.device)
            known = None if estimates is None else _planes(estimates[rows], self.device)
            done = min(1.0, (start + _BATCH) / len(features))
            batch = _Batch(self, targets, each[rows], mean, known)
            images, stopped, taken = batch.run(started + seconds * done)
            out[rows] = images.permute(0, 2, 3, 1).cpu().numpy()
            late, most = late or stopped, max(most, taken)
        return out, late, most

    def tune(
        self,
        features: NDArray[np.floating],
        images: NDArray[np.uint8],
        recipes: Sequence[Recipe],
        *,
        estimates: NDArray[np.float32],
        mean_image: NDArray[np.float32] | None = None,
        seconds: float,
    ) -> Tuned:
        """Try recipes (their steps do not count) on images and their features, with more and more steps.

        The estimates themselves are a recipe too, of no steps, and others count only where they are better
        beyond noise. The fewest steps are always tried, more as far as ``seconds`` allow.
        """
        truth = images.astype(np.float32) / 255
        untouched = np.square(estimates - truth).mean(axis=(1, 2, 3))
        found = [(Recipe(0, from_estimate=True), float(untouched.mean()))]
        n, left = len(images), list(recipes)
        started, pace, complete = time.monotonic(), 0.0, True
        for steps in LADDER:
            spent = time.monotonic() - started
            if pace and spent + pace * steps * n * len(left) > seconds:
                complete = False
                break
            left = [replace(one, steps=steps) for one in left]
            began = time.monotonic()
            rebuilt, _, taken = self.rebuild(
                np.concatenate([features] * len(left)),
                [one for one in left for _ in range(n)],
                estimates=np.concatenate([estimates] * len(left)),
                mean_image=mean_image,
            )
            pace = (time.monotonic() - began) / (max(1, taken) * n * len(left))
            errors = np.square(rebuilt.reshape(len(left), *truth.shape) - truth).mean(axis=(2, 3, 4))
            order = np.argsort(errors.mean(axis=1), kind="stable")
            gain = untouched - errors[order[0]]
            if gain.mean() > gain.std() / math.sqrt(n):
                found.append((left[order[0]], float(errors[order[0]].mean())))
            left = [left[index] for index in order[:_KEPT]]
            if taken < steps:
                break
        return Tuned(tuple(found), pace, complete)


@dataclass
class _Batch:
    """Some images being optimised: those not yet finished are kept together."""

    optimiser: Optimiser
    targets: Tensor
    recipes: list[Recipe]
    mean: Tensor
    estimates: Tensor | None
    steps: int = field(init=False)

    def __post_init__(self) -> None:
        device, n = self.targets.device, len(self.targets)
        self.steps = self.recipes[0].steps
        self.tv, self.pull = (
            torch.tensor([getattr(one, name) for one in self.recipes], device=device)
            for name in ("tv", "pull")
        )
        self.images = self.mean.expand(n, -1, -1, -1).clone()
        if self.estimates is not None:
            there = torch.tensor([one.from_estimate for one in self.recipes], device=device)
            self.images = torch.where(there[:, None, None, None], self.estimates, self.images)

    def run(self, deadline: float) -> tuple[Tensor, bool, int]:
        """The images with the least loss seen (n, 3, R, R), whether the clock ended it, steps taken."""
        n, device = len(self.targets), self.targets.device
        rows = torch.arange(n, device=device)
        out, x = self.images.clone(), self.images
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        least = torch.full((n,), math.inf, device=device)
        rate = torch.ones(n, device=device)
        stalled = torch.zeros(n, device=device)
        for step in range(self.steps):
            loss, residual, slope = self._loss(x, rows)
            better = loss < least[rows]
            out[rows[better]] = x[better]
            stalled = torch.where(loss < least[rows] * (1 - _IMPROVEMENT), 0, stalled + 1)
            least[rows] = torch.minimum(loss, least[rows])
            waited = stalled >= _PATIENCE
            rate = torch.where(waited, rate * _DECAY, rate)
            stalled = torch.where(waited, 0, stalled)
            if step % _LOOK_EVERY == 0:
                still = (residual > _FOUND) & (rate > _LEAST_RATE) & (slope.abs().amax((1, 2, 3)) > 0)
                if not still.all():
                    rows, x, first, second = rows[still], x[still], first[still], second[still]
                    slope, rate, stalled = slope[still], rate[still], stalled[still]
                if not len(rows):
                    return out, False, step
                if time.monotonic() > deadline:
                    return out, True, step
            first.lerp_(slope, 1 - _BETAS[0])
            second.lerp_(slope.square(), 1 - _BETAS[1])
            mean = first / (1 - _BETAS[0] ** (step + 1))
            size = (second / (1 - _BETAS[1] ** (step + 1))).sqrt() + 1e-12
            falling = 0.5 + 0.5 * math.cos(math.pi * step / self.steps)
            x = (x - _RATE * falling * rate[:, None, None, None] * mean / size).clamp(0, 1)
        if self.steps:
            loss, _, _ = self._loss(x, rows)
            better = loss < least[rows]
            out[rows[better]] = x[better]
        return out, False, self.steps

    def _loss(self, x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss and squared residual per image, and the loss's gradient."""
        x = x.detach().requires_grad_(True)
        difference = (self.optimiser.feature_map(x) - self.targets[rows]) / self.optimiser.scale
        residual = difference.square().flatten(1).mean(1)
        loss = residual + self.tv[rows] * _total_variation(x - self.mean)
        if self.estimates is not None and self.optimiser.precision is not None:
            away = (x - self.estimates[rows]).square() * self.optimiser.precision
            loss = loss + self.pull[rows] * away.flatten(1).mean(1)
        (slope,) = torch.autograd.grad(loss.sum(), x)
        return loss.detach(), residual.detach(), slope


def _total_variation(x: Tensor) -> Tensor:
    """Mean length of the gradient over an image's pixels, (n,); smooth at zero."""
    down = nn.functional.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1))
    right = nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
    squared = down.square() + right.square() + _TV_SMOOTHING**2
    return (squared.sqrt() - _TV_SMOOTHING).flatten(1).mean(1)


def on_device(feature_map: FeatureMap, accelerator: str) -> tuple[FeatureMap, torch.device]:
    """The feature map where torch is to compute: a copy of a module, anything else as it is on the CPU."""
    device = torch_device(accelerator)
    if device.type == "cpu" or not isinstance(feature_map, nn.Module):
        return feature_map, torch.device("cpu")
    return copy.deepcopy(feature_map).to(device), device


def run_map(
    feature_map: FeatureMap, images: NDArray[np.uint8] | NDArray[np.float32], device: torch.device
) -> NDArray[np.float32]:
    """Features of images (n, R, R, 3), uint8 or float32 in [0, 1]: float32 (n, C, h, w)."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            scale = np.float32(255 if batch.dtype == np.uint8 else 1)
            planes = _planes(batch.astype(np.float32) / scale, device)
            parts.append(feature_map(planes).float().cpu().numpy())
    return np.concatenate(parts)


def _planes(images: NDArray[np.floating], device: torch.device) -> Tensor:
    """float (n, R, R, 3) -> float32 (n, 3, R, R) on the device."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
    return torch.from_numpy(planes).to(device)
