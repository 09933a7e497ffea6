"""How the inversion decoder is trained, slowed and stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..measures import psnr_db
from ..pairs import Pairs
from .linear import LinearReconstruction
from .model import InversionModel

_BATCH = 64
# A round ends with a look at the validation error: an epoch, or less, or some steps where epochs are short.
_MIN_ROUND_STEPS, _MAX_ROUND_STEPS = 25, 100
VAL_PAIRS = 1000
"""Most validation pairs that are looked at."""
# Divided by the width of the network's first grid: wide ones need smaller steps.
_LEARNING_RATE = 0.128
_WEIGHT_DECAY = 1e-4
_WARM_UP_STEPS = 50
_EMA_DECAY = 0.995
# From this share of the budget on, the learning rate falls to zero with the clock.
_ANNEAL_FROM = 0.4
# After so many rounds without this relative improvement the rate is multiplied by _DECAY, _DECAYS times.
_PATIENCE_ROUNDS = 5
_IMPROVEMENT = 1e-3
_DECAYS = 3
_DECAY = 0.3
# 60 dB, where PSNR is capped.
_PERFECT_ERROR = 1e-6


def fit_linear(
    model: InversionModel, part: LinearReconstruction, train: Pairs, val: Pairs, rng: np.random.Generator
) -> None:
    """Add ``part`` to the model, fitted to what the model so far leaves, on as many pairs as it needs."""

    def batches(pairs: Pairs, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = np.sort(rng.permutation(len(pairs))[:limit])
        for start in range(0, len(chosen), _BATCH):
            rows = chosen[start : start + _BATCH]
            laid = model.lay(pairs.features[rows])
            rest = model.deviations(pairs.images[rows])
            for earlier in model.linear:
                rest = rest - earlier(laid)
            yield laid, rest

    limit = part.pairs_needed
    part.fit(lambda: batches(train, limit), lambda: batches(val, min(limit, VAL_PAIRS)))
    model.linear.append(part)


def mean_squared_error(model: InversionModel, pairs: Pairs) -> float:
    """Over the values of the first ``VAL_PAIRS`` pairs' images, in [0, 1]."""
    model.eval()
    total, count = 0.0, min(len(pairs), VAL_PAIRS)
    with torch.no_grad():
        for start in range(0, count, _BATCH):
            stop = min(start + _BATCH, count)
            out = model(model.lay(pairs.features[start:stop]))
            rest = out - model.deviations(pairs.images[start:stop])
            total += float(rest.square().sum())
    return total / (count * int(pairs.images[0].size))


class Training:
    """One run of the optimiser: its state, and the rules that slow and stop it."""

    def __init__(
        self,
        model: InversionModel,
        train: Pairs,
        val: Pairs,
        rng: np.random.Generator,
        *,
        started: float,
        budget_s: float,
    ) -> None:
        self.model, self.train, self.val, self.rng = model, train, val, rng
        self.started, self.budget_s = started, budget_s
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.average = [weight.detach().clone() for weight in self.weights]
        assert model.network is not None
        self.rate = _LEARNING_RATE / model.network.width
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=self.rate, weight_decay=_WEIGHT_DECAY, foreach=True
        )
        epoch_steps = len(train) // _BATCH
        self.round_steps = max(_MIN_ROUND_STEPS, min(epoch_steps, _MAX_ROUND_STEPS))
        self.steps = self.seen = 0
        self.decay = 1.0
        self.stopped: Literal["converged", "budget"] = "budget"
        self.best = [weight.clone() for weight in self.average]
        self.best_error = mean_squared_error(self.model, self.val)

    def rounds(self) -> Iterator[str]:
        """Train; after every round, yield the validation PSNR as text. Leaves the best weights in place."""
        stalled = decays = 0
        batches = self._batches()
        if self.best_error <= _PERFECT_ERROR:
            self.stopped = "converged"
        while self.stopped != "converged" and self._spent() < 1:
            for _ in range(self.round_steps):
                self._step(next(batches))
                if self._spent() >= 1:
                    break
            error = self._average_error()
            improved = error < self.best_error * (1 - _IMPROVEMENT)
            if error < self.best_error:
                self.best_error = error
                self.best = [weight.clone() for weight in self.average]
            stalled = 0 if improved else stalled + 1
            if self._spent() < _ANNEAL_FROM:
                if self.best_error <= _PERFECT_ERROR or (decays == _DECAYS and stalled >= _PATIENCE_ROUNDS):
                    self.stopped = "converged"
                elif stalled >= _PATIENCE_ROUNDS:
                    decays, stalled = decays + 1, 0
                    self.decay *= _DECAY
                    self._load(self.best)
                    self.average = [weight.clone() for weight in self.best]
            yield f"{float(psnr_db(np.float64(self.best_error))):.2f} dB"
        self._load(self.best)

    def _spent(self) -> float:
        return (time.monotonic() - self.started) / self.budget_s

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        size = min(_BATCH, len(self.train))
        while True:
            order = self.rng.permutation(len(self.train))
            for start in range(0, len(order) - size + 1, size):
                yield np.sort(order[start : start + size])

    def _step(self, rows: NDArray[np.int64]) -> None:
        # The clock enters only late in the budget, so that a run that converges before is reproducible.
        left = min(1.0, max(0.0, 1 - self._spent()) / (1 - _ANNEAL_FROM))
        warm = min(1.0, (self.steps + 1) / _WARM_UP_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self.decay * left * warm
        self.model.train()
        out = self.model(self.model.lay(self.train.features[rows]))
        loss = nn.functional.mse_loss(out, self.model.deviations(self.train.images[rows]))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.steps += 1
        self.seen += len(rows)
        decay = min(_EMA_DECAY, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self.average, [weight.detach() for weight in self.weights], 1 - decay)

    def _load(self, weights: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, weights, strict=True):
                weight.copy_(value)

    def _average_error(self) -> float:
        """The validation error with the averaged weights; the weights in training stay as they are."""
        current = [weight.detach().clone() for weight in self.weights]
        self._load(self.average)
        error = mean_squared_error(self.model, self.val)
        self._load(current)
        return error
