"""NoPeek: fine-tuning an encoder so that what it sends depends less on the image.

Vepakomma, Singh, Gupta, Raskar (arXiv 2008.09161): loss = task loss + alpha * dCor(X, Z), X the images and Z
the features of a batch. Here dCor is the bias-corrected squared distance correlation of Euclidean distances:
the biased one of the paper is near 1 for any two high-dimensional batches, independent ones too. It runs on
the provider's side, with a head that is trained along and then thrown away. A low dCor is no proof: the
attacker is to be trained afresh against the encoder that comes out.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data import Score, Split
from ..errors import InputError, PrivynetError
from ..leakage.accelerators import torch_device
from ..leakage.distance_correlation import DistanceCorrelation, distance_correlation
from ..progress import SILENT, Progress
from .collapse import Collapse, Spread
from .joint_training import ENCODER_LEARNING_RATE, HEAD_LEARNING_RATE, JointTraining

if TYPE_CHECKING:
    from ..encoders import Encoder

MIN_BATCH = 128
"""Below, the bias-corrected estimate is mostly noise."""
HEAD_SHARE = 0.25
"""The share of the budget in which the head alone learns, on the features as they were: a random head would
spoil the encoder first."""
_MIN_HELD_OUT = 4
_MAX_IMAGE_BYTES = 2**30


@dataclass(frozen=True)
class Measured:
    """An encoder and its head on held-out images."""

    dcor: DistanceCorrelation
    accuracy: Score
    spread: Spread = field(repr=False)

    @classmethod
    def of(cls, training: JointTraining, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Measured:
        """As they are at this point of the training."""
        features = training.features(images)
        if not np.isfinite(features).all():
            raise PrivynetError("the features are no longer finite", hint="use a smaller alpha")
        hits = (training.predict(features) == labels).astype(np.float64)
        dcor = distance_correlation(images.astype(np.float32) / np.float32(255), features)
        return cls(dcor, Score.mean(hits, training.seed), Spread.of(features))

    def document(self) -> dict[str, Any]:
        """Distance correlation and accuracy with their n."""
        return {"dcor": self.dcor.document(), "accuracy": self.accuracy.document()}


@dataclass(frozen=True)
class Adaptation:
    """A fine-tuned encoder and how it came to be.

    ``steps``: optimiser steps made, those of the head alone included. ``stopped``: ``steps``, or ``budget``
    where the clock ended it. ``before`` and ``after`` have the same head at both ends of the joint training,
    so that part of a gain in accuracy is the head's own.
    """

    encoder: Encoder = field(repr=False)
    alpha: float
    steps: int
    batch: int
    images: int
    seconds: float
    stopped: str
    before: Measured
    after: Measured
    seed: int

    @property
    def collapse(self) -> Collapse:
        """What became of the features' spread."""
        return Collapse(self.before.spread, self.after.spread)

    def warnings(self) -> list[str]:
        """What a reader must not miss, in sentences."""
        return [f"NoPeek: {found}" for found in self.collapse.warnings()]

    def document(self) -> dict[str, Any]:
        """As in a defence's document."""
        return {
            "alpha": self.alpha,
            "before": self.before.document(),
            "after": self.after.document(),
            "collapse": self.collapse.document(),
            "fit": {
                "seconds": round(self.seconds, 2),
                "steps": self.steps,
                "stopped": self.stopped,
                "batch": self.batch,
                "images": self.images,
                "encoder_learning_rate": ENCODER_LEARNING_RATE,
                "head_learning_rate": HEAD_LEARNING_RATE,
                "head_alone_share": HEAD_SHARE,
                "seed": self.seed,
            },
        }


def adapt(
    encoder: Encoder,
    train: Split,
    held_out: Split,
    *,
    alpha: float,
    steps: int = 600,
    budget_s: float | None = None,
    batch: int = MIN_BATCH,
    seed: int = 0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> Adaptation:
    """Fine-tune a copy of an encoder, without its noise and payload format, which the result keeps.

    ``alpha``: the weight of dCor against the cross-entropy, 0 or more. ``steps``: optimiser steps in all, of
    ``batch`` images of ``train`` each; ``budget_s`` seconds end them sooner. Without a budget the same seed
    gives the same weights on one machine and thread count. Of ``train`` as many images are used as fit in
    1 GiB. On ``held_out`` dCor, accuracy and spread are measured. The given encoder is left as it is.

    Raises ``InputError`` for figures out of range or fewer than ``batch`` images, and ``PrivynetError`` when
    the training diverges.
    """
    _check(alpha, steps, budget_s, batch)
    device = torch_device(accelerator)
    images, labels = _images(train, encoder.input_size)
    if len(images) < batch:
        raise InputError(f"{len(images)} training images", hint=f"NoPeek needs a batch of them, {batch}")
    if len(held_out) < _MIN_HELD_OUT:
        raise InputError(f"{len(held_out)} held-out images", hint=f"needed: {_MIN_HELD_OUT} or more")
    judged = held_out.images(encoder.input_size)
    started = time.monotonic()
    alone = round(HEAD_SHARE * steps)
    seconds = math.inf if budget_s is None else budget_s
    # a random generator of its own: the caller's stays where it was
    with torch.random.fork_rng(), progress.task("NoPeek", steps) as task:
        torch.manual_seed(seed)
        graph_module = copy.deepcopy(encoder.graph_module)
        training = JointTraining(graph_module, images, labels, len(train.classes), batch, seed, device)
        training.run(alone, alpha=None, seconds=HEAD_SHARE * seconds, task=task)
        before = Measured.of(training, judged, held_out.labels)
        left = max(0.0, seconds - (time.monotonic() - started))
        training.run(steps - alone, alpha=alpha, seconds=left, task=task)
        after = Measured.of(training, judged, held_out.labels)
    state = dict(graph_module.cpu().named_parameters())
    return Adaptation(
        encoder=encoder.adapt(state, method="nopeek", alpha=alpha),
        alpha=alpha,
        steps=training.done,
        batch=batch,
        images=len(images),
        seconds=time.monotonic() - started,
        stopped="budget" if training.timed_out else "steps",
        before=before,
        after=after,
        seed=seed,
    )


def _check(alpha: float, steps: int, budget_s: float | None, batch: int) -> None:
    if not (math.isfinite(alpha) and alpha >= 0):
        raise InputError(f"alpha {alpha:g} is out of range", hint="allowed: 0 or more")
    if steps < 1:
        raise InputError(f"{steps} steps", hint="needed: 1 or more")
    if budget_s is not None and not budget_s > 0:
        raise InputError(f"a budget of {budget_s:g} s", hint="needed: above 0")
    if batch < MIN_BATCH:
        raise InputError(
            f"a batch of {batch} is too small to estimate dCor", hint=f"needed: {MIN_BATCH} or more"
        )


def _images(split: Split, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """As many images of the split as memory is meant to hold, with their labels."""
    room = max(MIN_BATCH, _MAX_IMAGE_BYTES // (3 * size * size))
    parts: list[NDArray[np.uint8]] = []
    count = 0
    for part in split.batches(size):
        parts.append(part[: room - count])
        count += len(parts[-1])
        if count == room:
            break
    return np.concatenate(parts), split.labels[:count]
