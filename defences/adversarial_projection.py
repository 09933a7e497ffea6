"""A 1x1 mixing of a cut's channels trained min-max: against attackers that learn to invert it, with a head.

The projection P (D', C) minimises the head's cross-entropy plus ``weight`` times what the attackers recover,
while head and attackers are trained on what P sends (as in adversarial representation learning, Edwards and
Storkey, arXiv 1511.05897). It all runs on features of the whole cut: the backbone is never run.

Two things keep P from merely fooling its partner. Its rows stay orthonormal in coordinates in which the
channels are uncorrelated with variance 1, so that nothing hides in a small scale. And P moves little between
the attacker's steps, of which there are several for each of its own: with attackers that lagged behind (two
in turn, renewed now and then, and larger steps of P), those trained afresh recovered more. It is no proof all
the same: attack what comes out with attackers trained afresh.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError, PrivynetError
from ..leakage.accelerators import fast_precision, torch_device
from ..progress import SILENT, Progress
from .eigen_projection import (
    ChannelScatter,
    block_size,
    channel_scatter,
    check_examples,
    check_outputs,
    eigen_projection,
    image_blocks,
    whitening_of,
)
from .sparring import PatchDecoder, SparringHead

WEIGHT = 2.0
"""Of what the attacker recovers (r2) against the head's cross-entropy (nats)."""

STEPS = 150
"""Of the projection."""
_ATTACKER_STEPS = 6
"""For each of the projection's, the common one included."""
_BATCH = 64
_PART = 256
_WARM_UP = 0.15
"""The share of the steps in which attacker and head learn alone."""
_ANNEAL_FROM = 0.6
_AVERAGE_FROM = 0.75
_AVERAGE_DECAY = 0.9
_PROJECTION_RATE = 4e-3
_ATTACKER_RATE = 3e-3
_LEAST_ATTACKER_FACTOR = 0.3
_HEAD_RATE = 2e-3
_HEAD_WEIGHT_DECAY = 0.02
_LABEL_SMOOTHING = 0.05


def train_projection(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    images: NDArray[np.uint8],
    *,
    outputs: int,
    start: NDArray[np.floating] | None = None,
    weight: float = WEIGHT,
    scatter: ChannelScatter | None = None,
    steps: int = STEPS,
    budget_s: float | None = 16.0,
    seed: int = 0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """The mixing matrix float32 (``outputs``, C) for features (n, C, h, w) of images uint8 (n, R, R, 3).

    ``features``: float16 or float32, may be memory-mapped, read batch by batch. ``start``: a matrix to start
    from, default ``eigen_projection``'s; ``scatter``: what ``channel_scatter`` gave for these features, if it
    is known. ``steps`` of the projection, each with several of the attackers; fewer where ``budget_s``
    seconds are over before, and then the outcome depends on the clock, else on the seed alone. The outputs
    are uncorrelated with variance 1 over images and places.

    Raises:
        InputError: arrays that do not fit, ``outputs`` not in 1..C, weight, steps or budget out of range.
        PrivynetError: the training diverged.
    """
    check_examples(features, labels, images)
    channels = features.shape[1]
    check_outputs(outputs, channels)
    for name, value in (("weight", weight), ("steps", steps), ("budget", budget_s)):
        if value is not None and not (0 <= value < np.inf and (value > 0 or name == "weight")):
            raise InputError(f"{name} {value:g} of the projection's training", hint="needed: above 0")
    scatter = scatter or channel_scatter(features, labels, images)
    if start is None:
        start = eigen_projection(scatter.between, scatter.within, scatter.predictability, outputs=outputs)
    if start.shape != (outputs, channels):
        raise InputError(f"a start of shape {start.shape}", hint=f"needed: ({outputs}, {channels})")
    whitening = whitening_of(scatter.total)
    device = torch_device(accelerator)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        batches = _Batches(features, labels, images, device, np.random.default_rng(seed))
        sparring = _Sparring(batches, whitening, start, weight)
        with progress.task("adversarial projection", steps) as task:
            started = time.monotonic()
            for step in range(steps):
                spent = (time.monotonic() - started) / budget_s if budget_s else 0.0
                if spent >= 1:
                    break
                task.advance(note=sparring.round(max(step / steps, spent)))
    matrix = sparring.matrix @ whitening
    if not np.isfinite(matrix).all():
        raise PrivynetError("the projection's training diverged", hint="give a smaller weight")
    return np.ascontiguousarray(matrix, np.float32)


class _Batches:
    """Random batches without end: features less their mean, classes, and the images' blocks, standardised so
    that the blind guess has a squared error of 1."""

    def __init__(
        self,
        features: NDArray[np.floating],
        labels: NDArray[np.int64],
        images: NDArray[np.uint8],
        device: torch.device,
        rng: np.random.Generator,
    ) -> None:
        self.features, self.images, self.device, self.rng = features, images, device, rng
        self.classes = np.unique(labels, return_inverse=True)[1]
        self.places = (int(features.shape[2]), int(features.shape[3]))
        self.block = block_size(self.places, images.shape[1])
        self.mean = features.mean(0, dtype=np.float64).astype(np.float32)
        self.mean_image = images.mean(0, dtype=np.float64).astype(np.float32)
        parts = (images[start : start + _PART] - self.mean_image for start in range(0, len(images), _PART))
        squares = sum(float(np.square(part, dtype=np.float64).sum()) for part in parts)
        self.spread = np.float32(np.sqrt(squares / images.size) or 1)

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features (b, C, h, w), classes (b,), blocks (b, 3 block^2, h, w)."""
        rows = np.sort(self.rng.integers(len(self.features), size=_BATCH))
        features = torch.from_numpy(self.features[rows].astype(np.float32) - self.mean)
        deviations = torch.from_numpy((self.images[rows] - self.mean_image) / self.spread)
        blocks = image_blocks(deviations, self.places, self.block)
        classes = torch.from_numpy(self.classes[rows])
        return features.to(self.device), classes.to(self.device), blocks.to(self.device)


class _Sparring:
    """The projection, in whitened coordinates with orthonormal rows, its attacker and its head."""

    def __init__(
        self, batches: _Batches, whitening: NDArray[np.float64], start: NDArray[np.floating], weight: float
    ) -> None:
        self.batches, self.weight, self.device = batches, weight, batches.device
        self.whitening = torch.from_numpy(whitening.astype(np.float32)).to(self.device)
        whitened = torch.from_numpy(np.asarray(start, np.float64) @ np.linalg.inv(whitening))
        self.projection = _orthonormal(whitened).float().to(self.device)
        self.average: Tensor | None = None
        outputs, side, classes = len(start), min(batches.places), int(batches.classes.max()) + 1
        self.attacker = _placed(PatchDecoder(outputs, batches.block), self.device)
        self.head = _placed(SparringHead(outputs, side, classes), self.device)
        self.projecting = torch.optim.Adam([self.projection], lr=_PROJECTION_RATE, betas=(0.5, 0.99))
        self.attacking = torch.optim.Adam(self.attacker.parameters(), lr=_ATTACKER_RATE)
        self.heading = torch.optim.AdamW(
            self.head.parameters(), lr=_HEAD_RATE, weight_decay=_HEAD_WEIGHT_DECAY
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The projection of whitened channels, (D', C): the mean of the last ones."""
        latest = self.projection if self.average is None else self.average
        return _orthonormal(latest.detach().cpu().double()).numpy()

    def round(self, reached: float) -> str:
        """The attacker's steps and one of the projection; ``reached``: the share of the training done."""
        factor = min(1.0, max(0.02, (1 - reached) / (1 - _ANNEAL_FROM)))
        for optimiser, rate in (
            (self.projecting, _PROJECTION_RATE * factor),
            (self.attacking, _ATTACKER_RATE * max(_LEAST_ATTACKER_FACTOR, factor)),
        ):
            optimiser.param_groups[0]["lr"] = rate
        for _ in range(_ATTACKER_STEPS - 1):
            features, _classes, blocks = self.batches.draw()
            self.attacking.zero_grad()
            self._error(self._sent(features), blocks).backward()  # type: ignore[no-untyped-call]
            self.attacking.step()
        features, classes, blocks = self.batches.draw()
        self.projection.requires_grad_(True)
        sent = self._sent(features)
        error = self._error(sent, blocks)
        with fast_precision(self.device):
            logits = self.head(sent)
        entropy = functional.cross_entropy(logits.float(), classes, label_smoothing=_LABEL_SMOOTHING)
        (leaks,) = torch.autograd.grad(error, self.projection, retain_graph=True)
        (tells,) = torch.autograd.grad(entropy, self.projection, retain_graph=True)
        for optimiser in (self.attacking, self.heading):
            optimiser.zero_grad()
        (error + entropy).backward()  # type: ignore[no-untyped-call]
        for optimiser in (self.attacking, self.heading):
            optimiser.step()
        self.projection.requires_grad_(False)
        if reached >= _WARM_UP:
            self._move(tells - self.weight * leaks, averaging=reached >= _AVERAGE_FROM)
        return f"recovered {1 - error.item():.2f}, cross-entropy {entropy.item():.2f}"

    def _move(self, slope: Tensor, *, averaging: bool) -> None:
        """Along the slope that turns the rows' span, and back to orthonormal rows."""
        self.projection.grad = slope - slope @ self.projection.T @ self.projection
        self.projecting.step()
        self.projection.copy_(_orthonormal(self.projection))
        if averaging:
            self.average = (
                self.projection.clone()
                if self.average is None
                else self.average.lerp(self.projection, 1 - _AVERAGE_DECAY)
            )

    def _sent(self, features: Tensor) -> Tensor:
        mixing = self.projection @ self.whitening
        sent = torch.einsum("dc,nchw->ndhw", mixing, features)
        return sent.contiguous(memory_format=torch.channels_last)

    def _error(self, sent: Tensor, blocks: Tensor) -> Tensor:
        with fast_precision(self.device):
            out = self.attacker(sent)
        error: Tensor = (out.float() - blocks).square().mean()
        return error


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    module.to(device).to(memory_format=torch.channels_last)
    return module


def _orthonormal(rows: Tensor) -> Tensor:
    """The nearest matrix (D', C) with orthonormal rows."""
    left, _, right = torch.linalg.svd(rows, full_matrices=False)
    nearest: Tensor = left @ right
    return nearest
