"""The trained inversion decoder: a black-box attacker that has only pairs of images and features.

It starts from the best linear reconstruction and trains a residual network on what that leaves, on the
squared error (what PSNR and r2 measure), until the error on held-out pairs no longer falls. PrivyNet
(arXiv 1709.06161) attacks its encoders with a residual network of this kind.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import InputError, unknown
from ...progress import SILENT, Progress
from ..accelerators import torch_device
from ..measures import psnr_db
from ..pairs import Pairs
from .linear import LinearReconstruction
from .model import InversionModel
from .network import ARCHITECTURES
from .training import Training, fit_linear


@dataclass(frozen=True)
class Decoder:
    """A trained inversion decoder and how its training ended.

    ``stopped``: ``converged`` (the error on the validation pairs no longer fell) or ``budget``.
    ``val_psnr_db``: 10 log10(1 / mean squared error) over the validation pairs.
    """

    seconds: float
    epochs: float
    pairs: int
    stopped: Literal["converged", "budget"]
    val_psnr_db: float
    model: InversionModel = field(repr=False)

    def reconstruct(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Features (n, C, h, w) -> images float32 (n, R, R, 3) in [0, 1]."""
        return self.model.reconstruct(features)

    def document(self) -> dict[str, Any]:
        """The training, for an audit's document."""
        return {
            "seconds": round(self.seconds, 3),
            "epochs": round(self.epochs, 2),
            "pairs": self.pairs,
            "stopped": self.stopped,
            "val_psnr_db": self.val_psnr_db,
        }


def train_decoder(
    train: Pairs,
    val: Pairs,
    *,
    architecture: str = "residual",
    seed: int = 0,
    budget_s: float = 60.0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> Decoder:
    """Train the decoder on ``train`` until its error on ``val`` stops falling, or for ``budget_s`` seconds.

    The learning rate falls when the validation error stalls, and over the last part of the budget; the
    weights are averaged over steps, and the best of them on ``val`` are kept. Deterministic for a seed
    on the CPU when it ends ``converged``. Features are read batch by batch. Raises ``InputError`` for
    pairs of other shapes or a budget that is not positive, ``PrivynetError`` for features that are not
    finite.
    """
    if not budget_s > 0:
        raise InputError(f"attack budget {budget_s} s", hint="needed: more than 0 seconds")
    if architecture not in ARCHITECTURES:
        raise unknown("architecture", architecture, ARCHITECTURES)
    if train.feature_shape != val.feature_shape or train.image_size != val.image_size:
        raise InputError("training and validation pairs differ in shape", hint="use one encoder for both")
    started = time.monotonic()
    device = torch_device(accelerator)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = InversionModel(train, architecture)
        model.to(device).to(memory_format=torch.channels_last)
        fit_linear(model, LinearReconstruction(model.geometry).to(device), train, val, rng)
        run = Training(model, train, val, rng, started=started, budget_s=budget_s)
        with progress.task("inversion decoder", budget_s) as task:
            reported = 0.0
            for note in run.rounds():
                now = min(time.monotonic() - started, budget_s)
                task.advance(now - reported, note=note)
                reported = now
    model.eval().requires_grad_(False)
    return Decoder(
        seconds=time.monotonic() - started,
        epochs=run.seen / len(train),
        pairs=len(train),
        stopped=run.stopped,
        val_psnr_db=float(psnr_db(np.float64(run.best_error))),
        model=model,
    )
