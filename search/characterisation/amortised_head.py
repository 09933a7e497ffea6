"""One classification head for all channel subsets of a cut: a head with the mask as an input.

For a subset it starts from the best linear classifier on mean-pooled features, solved from moments of all
channels (ridge regression on the classes). What that leaves is learned by one network that sees the kept
channels (the others zero), the linear scores, and the mask.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...cloud import FeatureSet
from ...cloud.features import channel_statistics
from ...cloud.heads import LARGE_MAP, SMALLEST_CONVOLVED_MAP, Standardise
from ...errors import InputError
from ...leakage.accelerators import fast_precision, torch_device
from ...progress import SILENT, Progress
from .masked_training import Fit, Schedule, train_masked
from .storing import fitting, read_bytes, write_bytes
from .subsets import (
    MaskCode,
    Subset,
    SubsetPool,
    SubsetRegression,
    check_subset,
    fixed_subsets,
    gains,
    masks,
    split_evenly,
)

STEPS = 800
_BATCH = 128
_READ_BATCH = 256
_GROUPS = 8
"""Subsets in a batch."""
_VAL_IMAGES, _VAL_SUBSETS = 512, 16
_MAX_INPUTS = 1200
_POOLED_SIDES = (4, 3, 2, 1)
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 0.05
_LABEL_SMOOTHING = 0.1
_DROPOUT = 0.2
_WIDTH = 48
_HIDDEN = 256
_FIRST_SCALE = 6.0
"""Linear scores, 1 for the class and 0 for the others, times this are about log-probabilities."""
_KIND = "amortised-head"


class _Conv(nn.Module):
    """Convolution, normalisation within each image (its subset may be another than its neighbour's)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm = nn.GroupNorm(outputs // 12, outputs)

    def forward(self, x: Tensor, code: tuple[Tensor, Tensor]) -> Tensor:
        scale, shift = code
        return functional.relu(self.norm(self.conv(x)) * (1 + scale) + shift)


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, outputs), nn.LayerNorm(outputs)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, x: Tensor, code: tuple[Tensor, Tensor]) -> Tensor:
        scale, shift = (part.flatten(1) for part in code)
        out: Tensor = self.dropout(functional.relu(self.norm(self.linear(x)) * (1 + scale) + shift))
        return out


class MaskedHead(nn.Module):
    """The layers of ``cloud.heads`` with the mask: a convolutional head, or a dense one for small maps."""

    def __init__(self, feature_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = feature_shape
        side = min(height, width)
        self.convolves = side >= SMALLEST_CONVOLVED_MAP
        self.blocks = nn.ModuleList()
        if self.convolves:
            inputs, widths = channels, []
            while side >= LARGE_MAP:
                self.blocks.append(_Conv(inputs, _WIDTH, stride=2))
                inputs, side = _WIDTH, (side + 1) // 2
                widths.append(_WIDTH)
            self.blocks.append(_Conv(inputs, 2 * _WIDTH, stride=1))
            self.blocks.append(_Conv(2 * _WIDTH, 4 * _WIDTH, stride=2 if side >= 4 else 1))
            widths += [2 * _WIDTH, 4 * _WIDTH]
            seen = 8 * _WIDTH
        else:
            self.blocks.append(_Dense(channels * height * width, _HIDDEN))
            self.blocks.append(_Dense(_HIDDEN, _HIDDEN))
            widths, seen = [_HIDDEN, _HIDDEN], _HIDDEN
        self.code = MaskCode(channels, widths)
        self.dropout = nn.Dropout(_DROPOUT)
        self.classifier = nn.Linear(seen + classes, classes)
        self.scale = nn.Parameter(torch.tensor(_FIRST_SCALE))
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Tensor, linear: Tensor, mask: Tensor) -> Tensor:
        """Standardised features (n, C, h, w), linear scores (n, classes), mask (n, C) -> logits."""
        codes = self.code(mask)
        x = features * (mask * gains(mask))[:, :, None, None]
        x = x.contiguous(memory_format=torch.channels_last) if self.convolves else x.flatten(1)
        for block, code in zip(self.blocks, codes, strict=True):
            x = block(x, code)
        if self.convolves:
            x = self.dropout(torch.cat((x.mean((2, 3)), x.amax((2, 3))), dim=1))
        rest: Tensor = self.classifier(torch.cat((x, linear), dim=1))
        return self.scale * linear + rest


class _Model(nn.Module):
    def __init__(self, feature_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = feature_shape
        self.classes = classes
        self.standardise = Standardise(channels)
        fitting = [
            side for side in _POOLED_SIDES if side <= min(height, width) and channels * side**2 <= _MAX_INPUTS
        ]
        self.side = fitting[0] if fitting else 0
        self.regression = SubsetRegression(channels, channels * self.side**2, classes)
        self.masked = MaskedHead(feature_shape, classes)

    def pooled(self, standardised: Tensor) -> Tensor:
        """(n, C, h, w) -> (n, C * side^2), ordered by channel."""
        return functional.adaptive_avg_pool2d(standardised, self.side).flatten(1)

    def logits(self, features: Tensor, subsets: Sequence[Subset]) -> Tensor:
        """Features of all channels (n, C, h, w), n rows for the subsets in turn -> logits (n, classes)."""
        standardised = self.standardise(features)
        counts = split_evenly(len(features), len(subsets))
        if self.side:
            parts = torch.split(self.pooled(standardised), counts)
            linear = torch.cat(
                [
                    part[:, self.regression.regressors(subset.channels.tolist()).to(part.device)]
                    @ subset.weight.T.to(part.device)
                    for part, subset in zip(parts, subsets, strict=True)
                ]
            )
        else:
            linear = standardised.new_zeros(len(features), self.classes)
        mask = masks(subsets, counts, self.regression.channels).to(standardised)
        with fast_precision(features.device):
            out: Tensor = self.masked(standardised, linear, mask)
        return out.float()


@dataclass(frozen=True)
class AmortisedHead:
    """A trained head: ``score`` gives any channel subset's accuracy by a forward pass."""

    feature_shape: tuple[int, int, int]
    classes: int
    fit_info: Fit
    model: _Model = field(repr=False)

    @classmethod
    def fit(
        cls,
        train: FeatureSet,
        val: FeatureSet,
        *,
        classes: int,
        steps: int = STEPS,
        budget_s: float | None = None,
        seed: int = 0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> AmortisedHead:
        """Train on the features of all channels, float16 or float32 (n, C, h, w), read in batches.

        Ends after ``steps``, or ``budget_s`` seconds if they are over first. Raises ``InputError`` for
        shapes that differ, labels out of range, features that are not finite, no steps or no budget.
        """
        schedule = Schedule(steps, budget_s)
        if train.feature_shape != val.feature_shape:
            raise InputError(
                "training and validation features differ in shape", hint="use one encoder for both"
            )
        for data in (train, val):
            if int(data.labels.min()) < 0 or int(data.labels.max()) >= classes:
                raise InputError(f"labels beyond {classes} classes", hint=f"from 0 to {classes - 1}")
        started = time.monotonic()
        device = torch_device(accelerator)
        rng = np.random.default_rng(seed)
        mean, std = channel_statistics(train, "training")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = _Model(train.feature_shape, classes)
            model.standardise.set_statistics(mean, std)
            _fit_linear(model, train, val)
            model.standardise.to(device)
            model.masked.to(device)
            held_out = fixed_subsets(model.regression, np.random.default_rng(seed), _VAL_SUBSETS)
            pool = SubsetPool(model.regression, rng)

            def loss(rows: NDArray[np.int64]) -> Tensor:
                features, labels = train.take(rng.permutation(rows))
                logits = model.logits(features.to(device), pool.draw(min(_GROUPS, len(rows))))
                return functional.cross_entropy(logits, labels.to(device), label_smoothing=_LABEL_SMOOTHING)

            def val_error() -> float:
                model.eval()
                rows, total = np.arange(min(len(val), _VAL_IMAGES)), 0.0
                with torch.no_grad():
                    for part in _chunks(rows):
                        features, labels = val.take(part)
                        logits = model.logits(features.to(device), held_out[: len(part)])
                        total += float(functional.cross_entropy(logits, labels.to(device), reduction="sum"))
                return total / len(rows)

            fit = train_masked(
                model.masked,
                loss=loss,
                renew=pool.renew,
                val_error=val_error,
                images=len(train),
                batch=_BATCH,
                learning_rate=_LEARNING_RATE,
                weight_decay=_WEIGHT_DECAY,
                schedule=schedule,
                started=started,
                rng=rng,
                title="amortised head",
                progress=progress,
            )
        # As it will be read again: the layout in memory decides the last digits.
        return cls.from_bytes(cls(train.feature_shape, classes, fit, model).to_bytes())

    def predict(self, channels: Sequence[int], features: NDArray[Any]) -> NDArray[np.int64]:
        """The most probable class (n,) from ``channels`` alone; features of all channels (n, C, h, w).

        Only the kept channels are read. Raises ``InputError`` for channels that are not there.
        """
        kept = check_subset(channels, self.feature_shape[0])
        if features.shape[1:] != self.feature_shape:
            raise InputError(f"features {features.shape[1:]}", hint=f"needed: {self.feature_shape}")
        subset = self.model.regression.solve(kept)
        answers = np.empty(len(features), np.int64)
        with torch.inference_mode():
            for rows in _chunks(np.arange(len(features))):
                # The mean of a channel that is not kept: it must not matter, and is not read.
                batch = self.model.standardise.mean.repeat(len(rows), *self._tiles())
                batch[:, kept] = torch.from_numpy(
                    np.asarray(features[rows[0] : rows[-1] + 1, kept], dtype=np.float32)
                )
                answers[rows] = self.model.logits(batch, [subset]).argmax(1).numpy()
        return answers

    def _tiles(self) -> tuple[int, int, int]:
        return (1, *self.feature_shape[1:])

    def score(self, channels: Sequence[int], test: FeatureSet, *, images: int = 2000) -> float:
        """The accuracy in [0, 1] on at most ``images`` of ``test``: always the same ones, evenly spaced."""
        rows = np.unique(np.linspace(0, len(test) - 1, min(images, len(test))).astype(np.int64))
        features = test.features[rows]
        return float((self.predict(channels, features) == test.labels[rows]).mean())

    def to_bytes(self) -> bytes:
        """Everything as one safetensors file, to be kept in a cache."""
        document = {
            "feature_shape": list(self.feature_shape),
            "classes": self.classes,
            "fit": self.fit_info.__dict__,
        }
        return write_bytes(_KIND, document, self.model.state_dict())

    @classmethod
    def from_bytes(cls, data: bytes) -> AmortisedHead:
        """What ``to_bytes`` gave. Raises ``InputError`` for anything else."""
        document, tensors = read_bytes(_KIND, data)
        with fitting(_KIND):
            channels, height, width = document["feature_shape"]
            classes = document["classes"]
            model = _Model((channels, height, width), classes)
            model.load_state_dict(tensors, strict=True)
            fit = Fit(**document["fit"])
        model.eval().requires_grad_(False)
        return cls((channels, height, width), classes, fit, model)


def _fit_linear(model: _Model, train: FeatureSet, val: FeatureSet) -> None:
    """The moments of pooled features and classes less their shares."""
    if not model.side:
        return
    regression = model.regression
    shares = torch.bincount(torch.from_numpy(train.labels), minlength=model.classes).double() / len(train)
    for prefix, data in (("", train), ("val_", val)):
        gram = torch.zeros(regression.gram.shape, dtype=torch.float64)
        cross = torch.zeros(regression.cross.shape, dtype=torch.float64)
        squares = torch.zeros(model.classes, dtype=torch.float64)
        for rows in _chunks(np.arange(len(data))):
            features, labels = data.take(rows)
            x = model.pooled(model.standardise(features))
            y = functional.one_hot(labels, model.classes).double() - shares
            gram += (x.T @ x).double()
            cross += x.double().T @ y
            squares += y.square().sum(0)
        getattr(regression, f"{prefix}gram").copy_(gram)
        getattr(regression, f"{prefix}cross").copy_(cross)
    regression.val_squares.copy_(squares)


def _chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), _READ_BATCH):
        yield rows[start : start + _READ_BATCH]
