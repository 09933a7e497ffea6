"""How the networks for all subsets are trained: so many steps, or so many seconds."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import InputError
from ...progress import SILENT, Progress

ROUND_STEPS = 50
"""After so many steps there are other subsets; after ``_LOOK_ROUNDS`` of them a look at held-out data."""
_LOOK_ROUNDS = 4
_WARM_UP = 0.05
_EMA_DECAY = 0.99


@dataclass(frozen=True)
class Schedule:
    """When a training ends: after ``steps`` or ``budget_s`` seconds, whichever comes first.

    Without a budget the outcome depends on the seed alone (on one machine and thread count).
    """

    steps: int
    budget_s: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"{self.steps} steps of training", hint="at least 1 is needed")
        if self.budget_s is not None and not self.budget_s > 0:
            raise InputError(f"training budget {self.budget_s} s", hint="needed: more than 0 seconds")

    def spent(self, steps: int, started: float) -> float:
        """The share that is over; 1 or more at the end."""
        clock = (time.monotonic() - started) / self.budget_s if self.budget_s is not None else 0.0
        return max(steps / self.steps, clock)


@dataclass(frozen=True)
class Fit:
    """How a training ended: on the steps or on the clock, and the least held-out error, in its own unit."""

    seconds: float
    steps: int
    stopped: str
    val_error: float


def train_masked(
    network: nn.Module,
    *,
    loss: Callable[[NDArray[np.int64]], Tensor],
    renew: Callable[[], None],
    val_error: Callable[[], float],
    images: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    schedule: Schedule,
    started: float,
    rng: np.random.Generator,
    title: str,
    progress: Progress = SILENT,
) -> Fit:
    """Train ``network`` in place; it ends with the averaged weights that did best on held-out data.

    ``loss`` takes the numbers of a batch's images, ascending; ``renew`` is called every ``ROUND_STEPS``. The
    rate rises over the first twentieth and falls along a cosine to zero.
    """
    weights: list[Tensor] = [weight for weight in network.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, foreach=True)
    average = [weight.detach().clone() for weight in weights]
    best, best_error, steps = copy.deepcopy(average), val_error(), 0
    batches = _batches(rng, images, min(batch, images))
    with progress.task(title, 1.0) as task:
        shown = 0.0
        while True:
            spent = schedule.spent(steps, started)
            if steps % (ROUND_STEPS * _LOOK_ROUNDS) == 0 or spent >= 1:
                if steps:
                    error = _error_with(weights, average, val_error)
                    if error < best_error:
                        best, best_error = copy.deepcopy(average), error
                task.advance(min(spent, 1.0) - shown)
                shown = min(spent, 1.0)
            if spent >= 1:
                break
            if steps % ROUND_STEPS == 0:
                renew()
            rate = learning_rate * min(1.0, (spent + 1 / schedule.steps) / _WARM_UP)
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * spent))
            network.train()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss(next(batches)))
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            steps += 1
            decay = min(_EMA_DECAY, steps / (steps + 10))
            torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1 - decay)
    _load(weights, best)
    network.eval().requires_grad_(False)
    stopped = "steps" if steps >= schedule.steps else "budget"
    return Fit(time.monotonic() - started, steps, stopped, best_error)


def _batches(rng: np.random.Generator, images: int, size: int) -> Iterator[NDArray[np.int64]]:
    while True:
        order = rng.permutation(images)
        for start in range(0, images - size + 1, size):
            yield np.sort(order[start : start + size])


def _error_with(weights: list[Tensor], other: list[Tensor], val_error: Callable[[], float]) -> float:
    current = [weight.detach().clone() for weight in weights]
    _load(weights, other)
    error = val_error()
    _load(weights, current)
    return error


def _load(weights: list[Tensor], values: list[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
