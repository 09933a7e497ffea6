"""The ridge attack: the strongest linear reconstruction, without training.

Neighbourhoods of several sizes compete on the validation pairs; then a reconstruction of every pixel from
all features is fitted to what the best of them leaves, and kept where it helps. The second is thereby shrunk
towards the first (a prior that few pairs need) and reaches what late cuts have moved far.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InputError
from ...progress import SILENT, Progress
from ..accelerators import torch_device
from ..measures import psnr_db
from ..pairs import Pairs
from .linear import LinearReconstruction
from .model import InversionModel
from .training import fit_linear, mean_squared_error

_KERNELS = (1, 3, 5, 7)
# For summing one candidate's normal equations, for each second of the budget: about a tenth of it.
_MOMENT_FLOPS_PER_S, _MAX_MOMENT_FLOPS = 1e10, 4e11
# The rate that a core reaches at least; small fits, which mostly wait for memory, do not show it.
_FLOPS_PER_S = 5e10
_LEAST_GAIN = 1e-3
"""The smallest relative improvement for which a wider neighbourhood, or all features, is preferred."""


@dataclass(frozen=True)
class Ridge:
    """The fitted reconstruction. ``kernel``: the neighbourhood's side in places. ``whole``: see above.

    ``stopped``: ``converged``, or ``budget`` where larger candidates were left out for lack of time.
    """

    seconds: float
    pairs: int
    stopped: Literal["converged", "budget"]
    kernel: int
    whole: bool
    val_psnr_db: float
    model: InversionModel = field(repr=False)

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Features (n, C, h, w) -> images float32 (n, R, R, 3) in [0, 1]."""
        return self.model.reconstruct(features)

    def document(self) -> dict[str, Any]:
        """The fit, for an audit's document."""
        return {
            "seconds": round(self.seconds, 3),
            "pairs": self.pairs,
            "stopped": self.stopped,
            "kernel": self.kernel,
            "whole": self.whole,
            "val_psnr_db": self.val_psnr_db,
        }


def fit_ridge(
    train: Pairs,
    val: Pairs,
    *,
    seed: int = 0,
    budget_s: float = 60.0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> Ridge:
    """Fit on ``train``; ridge strength, neighbourhood and the whole are chosen on ``val``.

    Takes seconds to tens of seconds; candidates that would end after ``budget_s`` are left out, the first
    never is. Raises ``InputError`` for pairs of other shapes or a budget that is not positive,
    ``PrivynetError`` for features that are not finite.
    """
    if not budget_s > 0:
        raise InputError(f"attack budget {budget_s} s", hint="needed: more than 0 seconds")
    if train.feature_shape != val.feature_shape or train.image_size != val.image_size:
        raise InputError("training and validation pairs differ in shape", hint="use one encoder for both")
    started = time.monotonic()
    device = torch_device(accelerator)
    rng = np.random.default_rng(seed)
    model = InversionModel(train).to(device)
    geometry = model.geometry
    best: list[torch.nn.Module] = []
    best_error = mean_squared_error(model, val)
    kernel, whole, stopped = 0, False, False
    candidates = [*(() if geometry.vector else _KERNELS), 0]
    moment_flops = min(_MAX_MOMENT_FLOPS, budget_s * _MOMENT_FLOPS_PER_S)
    seconds_per_flop = 0.0
    with progress.task("ridge", len(candidates)) as task:
        for candidate in candidates:
            task.advance()
            if candidate > 2 * geometry.entry - 1:
                continue
            part = LinearReconstruction(geometry, candidate, moment_flops=moment_flops).to(device)
            if not part.small:
                continue
            now = time.monotonic()
            expected_s = seconds_per_flop * part.flops(len(train))
            if expected_s and now - started + expected_s > budget_s:
                stopped = True
                continue
            model.linear = torch.nn.ModuleList(best if not candidate else [])
            fit_linear(model, part, train, val, rng)
            error = mean_squared_error(model, val)
            seconds_per_flop = min(1 / _FLOPS_PER_S, (time.monotonic() - now) / part.flops(len(train)))
            if error < best_error * (1 - _LEAST_GAIN):
                best, best_error = list(model.linear), error
                kernel, whole = candidate or kernel, not candidate
    model.linear = torch.nn.ModuleList(best)
    model.eval().requires_grad_(False)
    return Ridge(
        seconds=time.monotonic() - started,
        pairs=len(train),
        stopped="budget" if stopped else "converged",
        kernel=kernel,
        whole=whole,
        val_psnr_db=float(psnr_db(np.float64(best_error))),
        model=model,
    )
