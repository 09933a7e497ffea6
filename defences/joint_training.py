"""Training an encoder and a head together on loss = cross-entropy + alpha * dCor(images, features)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.nn import functional as F

from ..cloud import FeatureSet, build_head
from ..cloud.features import channel_statistics
from ..cloud.heads import Head
from ..leakage.accelerators import fast_precision
from ..leakage.distance_correlation import dcor_loss
from ..progress import Task

ENCODER_LEARNING_RATE = 1e-3
HEAD_LEARNING_RATE = 2e-3
WARM_UP = 0.1
"""The share of a phase over which the learning rates rise; they then fall to zero along a cosine."""
_STATISTICS_IMAGES = 1024
_EVALUATION_BATCH = 256


@dataclass
class JointTraining:
    """An encoder's graph and its head in training, both on ``device``.

    ``images``: uint8 (n, H, H, 3); ``labels``: int64 (n,). Batches are drawn with ``seed``; dropout and the
    head's first weights come from torch's global generator.
    """

    encoder: fx.GraphModule = field(repr=False)
    images: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    classes: int
    batch: int
    seed: int
    device: torch.device
    head: Head = field(init=False, repr=False)
    done: int = 0
    """Optimiser steps so far."""
    timed_out: bool = False

    def __post_init__(self) -> None:
        self.encoder.eval().to(self.device)
        features = self.features(self.images[:_STATISTICS_IMAGES])
        first = FeatureSet(features, self.labels[: len(features)])
        head = build_head("auto", first.feature_shape, self.classes)
        head.standardise.set_statistics(*channel_statistics(first, "training"))
        self.head = head.to(self.device)
        self._batches = _shuffled(len(self.images), self.batch, self.seed)

    def run(self, steps: int, *, alpha: float | None, seconds: float, task: Task) -> None:
        """So many optimiser steps, or fewer where ``seconds`` are over before; ``None``: the head alone."""
        for parameter in self.encoder.parameters():
            parameter.requires_grad_(alpha is not None and parameter.is_floating_point())
        groups = [(list(self.head.parameters()), HEAD_LEARNING_RATE)]
        if alpha is not None:
            trained = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
            groups.append((trained, ENCODER_LEARNING_RATE))
        optimiser = torch.optim.Adam([{"params": parameters, "lr": rate} for parameters, rate in groups])
        started = time.monotonic()
        for step in range(steps):
            elapsed = time.monotonic() - started
            if elapsed >= seconds:
                self.timed_out = True
                break
            factor = _rate_factor(max(step / steps, elapsed / seconds), 1 / steps)
            for group, (_, rate) in zip(optimiser.param_groups, groups, strict=True):
                group["lr"] = rate * factor
            loss, note = self._loss(next(self._batches), alpha)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            self.done += 1
            task.advance(note=note)
        self.encoder.requires_grad_(False)

    def _loss(self, rows: NDArray[np.int64], alpha: float | None) -> tuple[Tensor, str]:
        images = torch.from_numpy(self.images[rows]).to(self.device)
        self.head.train()
        with fast_precision(self.device):
            features = self.encoder(images)
            logits = self.head(features)
        loss = F.cross_entropy(logits.float(), torch.from_numpy(self.labels[rows]).to(self.device))
        note = f"loss {loss.item():.3f}"
        if alpha is None:
            return loss, f"head alone, {note}"
        if not alpha:
            return loss, note
        dependence = dcor_loss(images.float() / 255, features.float())
        return loss + alpha * dependence, f"{note}, dCor {dependence.item():.3f}"

    @torch.inference_mode()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of images (n, H, H, 3): (n, C, h, w), in single precision."""
        parts = [
            self.encoder(torch.from_numpy(part).to(self.device)).cpu().contiguous().numpy()
            for part in _in_parts(images)
        ]
        return np.concatenate(parts)

    @torch.inference_mode()
    def predict(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """The head's class for each feature map (n, C, h, w); (n,)."""
        self.head.eval()
        parts = [self.head(torch.from_numpy(part).to(self.device)) for part in _in_parts(features)]
        classes: NDArray[np.int64] = torch.cat(parts).argmax(1).cpu().numpy()
        return classes


def _in_parts(rows: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    for start in range(0, len(rows), _EVALUATION_BATCH):
        yield rows[start : start + _EVALUATION_BATCH]


def _shuffled(n: int, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Batches of rows without end; an incomplete one is left out."""
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(n)
        for start in range(0, n - size + 1, size):
            yield order[start : start + size]


def _rate_factor(reached: float, first: float) -> float:
    """The rates' factor where the share ``reached`` of a phase is over; one step is ``first`` of it."""
    if reached < WARM_UP:
        return (reached + first) / (WARM_UP + first)
    return 0.5 * (1 + math.cos(math.pi * (reached - WARM_UP) / (1 - WARM_UP)))
