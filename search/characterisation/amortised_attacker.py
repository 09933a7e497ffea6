"""One inversion attacker for all channel subsets of a cut: an audit's decoder with the mask as an input.

For a subset it starts, as a decoder trained for it alone does, from the best linear reconstruction, solved
from moments of all channels. What that leaves is learned by one network that sees the kept channels (the
others zero), the linear reconstruction, and the mask. Training draws subsets whose size is uniform in the
logarithm. Its scores rank subsets; they read lower than those of a decoder of their own (``calibration``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...errors import InputError
from ...leakage import Pairs, score_images
from ...leakage.accelerators import fast_precision, torch_device
from ...leakage.decoders.geometry import Geometry
from ...leakage.decoders.linear import LinearReconstruction
from ...leakage.decoders.model import InversionModel
from ...leakage.decoders.network import Residual, ResidualNetwork
from ...progress import SILENT, Progress
from .masked_training import Fit, Schedule, train_masked
from .storing import fitting, read_bytes, state_without, write_bytes
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

STEPS = 1000
_BATCH = 64
_READ_BATCH = 128
_GROUPS = 8
"""Subsets in a batch."""
_VAL_PAIRS, _VAL_SUBSETS = 384, 16
_WIDE_INPUTS = 1200
_MAX_INPUTS = 2048
# Divided by the network's first width, as for a decoder of one subset.
_LEARNING_RATE = 0.192
_WEIGHT_DECAY = 1e-4
_PIXEL_STD = 0.25
"""Deviations from the mean image are about so large; the network sees them divided by it."""
_KIND = "amortised-attacker"


class MaskedNetwork(nn.Module):
    """Masked features, their linear reconstruction and the mask -> what is added to the latter."""

    def __init__(self, geometry: Geometry, channels: int) -> None:
        super().__init__()
        network = ResidualNetwork(geometry)
        self.width, self.entry = network.width, geometry.entry
        self.repeats = geometry.channels // channels
        self.block = -(-geometry.image_size // geometry.entry)
        self.entrance, self.body = network.entrance, network.body
        self.look = nn.Conv2d(3 * self.block**2, self.width, 3, padding=1)
        inner = [module.width for module in self.body if isinstance(module, Residual)]
        self.code = MaskCode(channels, [self.width, *inner])

    def forward(self, laid: Tensor, linear: Tensor, mask: Tensor) -> Tensor:
        """Laid-out features (n, c, g, g), linear (n, 3, R, R), mask (n, C) -> (n, 3, R, R)."""
        first, *codes = self.code(mask)
        x: Tensor
        missing = self.entry * self.block - linear.shape[2]
        padded = functional.pad(linear / _PIXEL_STD, (0, missing, 0, missing))
        shown = functional.pixel_unshuffle(padded, self.block)
        kept = (mask * gains(mask)).repeat_interleave(self.repeats, dim=1)[:, :, None, None]
        x = self.entrance((laid * kept).contiguous(memory_format=torch.channels_last))
        x = _modulate(x + self.look(shown), first)
        for module in self.body:
            x = module(x)
            if isinstance(module, Residual):
                x = _modulate(x, codes.pop(0))
        return x


def _modulate(x: Tensor, code: tuple[Tensor, Tensor]) -> Tensor:
    scale, shift = code
    return x * (1 + scale) + shift


class _Model(InversionModel):
    """An inversion model whose linear part and network are those of the subset it is asked about."""

    def __init__(self, pairs: Pairs) -> None:
        super().__init__(pairs)
        channels = pairs.feature_shape[0]
        kernel = None
        if not self.geometry.vector:
            kernel = 3 if self.geometry.channels * 9 <= _WIDE_INPUTS else 1
        self.reconstruction = LinearReconstruction(self.geometry, kernel)
        small = self.reconstruction.small and self.reconstruction.inputs <= _MAX_INPUTS
        self.reconstruction.small = small
        inputs, outputs = (self.reconstruction.inputs, len(self.reconstruction.weight)) if small else (0, 0)
        self.reconstruction.weight = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.regression = SubsetRegression(channels, inputs, outputs)
        self.masked = MaskedNetwork(self.geometry, channels)

    def rebuild(self, laid: Tensor, subsets: Sequence[Subset]) -> Tensor:
        """Laid-out features of all channels (n, c, g, g) -> deviations; n rows for the subsets in turn."""
        counts = split_evenly(len(laid), len(subsets))
        linear = torch.cat(
            [
                self._linear(part, subset)
                for part, subset in zip(torch.split(laid, counts), subsets, strict=True)
            ]
        )
        mask = masks(subsets, counts, self.regression.channels).to(laid)
        with fast_precision(laid.device):
            rest: Tensor = self.masked(laid, linear, mask)
        return linear + rest.float()

    def _linear(self, laid: Tensor, subset: Subset) -> Tensor:
        repeats = self.geometry.channels // self.regression.channels
        places = (subset.channels[:, None] * repeats + torch.arange(repeats)).flatten().to(laid.device)
        return self.reconstruction.reconstruct(laid[:, places], subset.weight.to(laid.device))


@dataclass(frozen=True)
class AmortisedAttacker:
    """A trained attacker: ``score`` rates any channel subset by a forward pass."""

    feature_shape: tuple[int, int, int]
    image_size: int
    fit_info: Fit
    model: _Model = field(repr=False)

    @classmethod
    def fit(
        cls,
        train: Pairs,
        val: Pairs,
        *,
        steps: int = STEPS,
        budget_s: float | None = None,
        seed: int = 0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> AmortisedAttacker:
        """Train on pairs with the features of all channels, float16 or float32 (n, C, h, w), read in batches.

        Ends after ``steps``, or ``budget_s`` seconds if they are over first. Raises ``InputError`` for pairs
        of other shapes, no steps or no budget, ``PrivynetError`` for features that are not finite.
        """
        schedule = Schedule(steps, budget_s)
        if train.feature_shape != val.feature_shape or train.image_size != val.image_size:
            raise InputError("training and validation pairs differ in shape", hint="use one encoder for both")
        started = time.monotonic()
        device = torch_device(accelerator)
        rng = np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = _Model(train)
        model.to(memory_format=torch.channels_last)
        model.to(device)
        _fit_linear(model, train, val, rng)
        held_out = fixed_subsets(model.regression, np.random.default_rng(seed), _VAL_SUBSETS)
        pool = SubsetPool(model.regression, rng)

        def loss(rows: NDArray[np.int64]) -> Tensor:
            # Neighbouring rows share a subset: in random order, so that none is tied to a part of the file.
            rows = rng.permutation(rows)
            return _relative_error(model, train, rows, pool.draw(min(_GROUPS, len(rows)))).mean()

        def val_error() -> float:
            model.eval()
            rows = np.arange(min(len(val), _VAL_PAIRS))
            with torch.no_grad():
                parts = [
                    float(_relative_error(model, val, part, held_out[: len(part)]).mean()) * len(part)
                    for part in _chunks(rows)
                ]
            return sum(parts) / len(rows)

        fit = train_masked(
            model.masked,
            loss=loss,
            renew=pool.renew,
            val_error=val_error,
            images=len(train),
            batch=_BATCH,
            learning_rate=_LEARNING_RATE / model.masked.width,
            weight_decay=_WEIGHT_DECAY,
            schedule=schedule,
            started=started,
            rng=rng,
            title="amortised attacker",
            progress=progress,
        )
        fitted = cls(train.feature_shape, train.image_size, fit, model)
        # As it will be read again: the layout in memory decides the last digits.
        return cls.from_bytes(fitted.to_bytes())

    def reconstruct(self, channels: Sequence[int], features: NDArray[Any]) -> NDArray[np.float32]:
        """Features of all channels (n, C, h, w) -> images float32 (n, R, R, 3) from ``channels`` alone.

        Only the kept channels are read. Raises ``InputError`` for channels that are not there.
        """
        kept = check_subset(channels, self.feature_shape[0])
        if features.shape[1:] != self.feature_shape:
            raise InputError(f"features {features.shape[1:]}", hint=f"needed: {self.feature_shape}")
        subset = self.model.regression.solve(kept)
        out = np.empty((len(features), self.image_size, self.image_size, 3), np.float32)
        with torch.inference_mode():
            for rows in _chunks(np.arange(len(features))):
                # The mean of a channel that is not kept: it must not matter, and is not read.
                batch = np.repeat(self.model.feature_mean.numpy()[None], len(rows), axis=0)
                batch[:, kept] = features[rows[0] : rows[-1] + 1, kept]
                images = self.model.rebuild(self.model.lay(batch), [subset]) + self.model.mean_image
                out[rows] = images.clamp(0, 1).permute(0, 2, 3, 1).numpy()
        return out

    def score(self, channels: Sequence[int], test: Pairs, *, images: int = 500) -> dict[str, float]:
        """``r2``, ``psnr_db`` and ``ssim`` (as ``leakage.score_images``) on at most ``images`` of ``test``.

        Always the same ones, evenly spaced, so that scores of subsets compare.
        """
        if test.image_size != self.image_size:
            raise InputError(f"images of {test.image_size} pixels", hint=f"needed: {self.image_size}")
        rows = np.unique(np.linspace(0, len(test) - 1, min(images, len(test))).astype(np.int64))
        features = test.features[rows]
        blind = self.model.mean_image.permute(1, 2, 0).numpy()
        scores = score_images(self.reconstruct(channels, features), test.images[rows], mean_image=blind)
        return {
            "r2": 1 - float(scores.squared_error.sum() / max(scores.blind_squared_error.sum(), 1e-12)),
            "psnr_db": float(scores.psnr_db.mean()),
            "ssim": float(scores.ssim.mean()),
        }

    def to_bytes(self) -> bytes:
        """Everything as one safetensors file, to be kept in a cache."""
        document = {
            "feature_shape": list(self.feature_shape),
            "image_size": self.image_size,
            "fit": self.fit_info.__dict__,
        }
        return write_bytes(_KIND, document, state_without(self.model, "network."))

    @classmethod
    def from_bytes(cls, data: bytes) -> AmortisedAttacker:
        """What ``to_bytes`` gave. Raises ``InputError`` for anything else."""
        document, tensors = read_bytes(_KIND, data)
        with fitting(_KIND):
            channels, height, width = document["feature_shape"]
            size = document["image_size"]
            blank = Pairs(
                np.zeros((1, channels, height, width), np.float32),
                np.zeros((1, size, size, 3), np.uint8),
                np.zeros(1, np.int64),
            )
            model = _Model(blank)
            model.load_state_dict(tensors, strict=True)
            fit = Fit(**document["fit"])
        model.eval().requires_grad_(False)
        return cls((channels, height, width), size, fit, model)


def _relative_error(
    model: _Model, pairs: Pairs, rows: NDArray[np.int64], subsets: Sequence[Subset]
) -> Tensor:
    """Each image's squared error (n,) as a share of what its subset's linear reconstruction leaves.

    In that measure a subset of few channels counts as much as one of many: what ranks are made of.
    """
    out = model.rebuild(model.lay(pairs.features[rows]), subsets)
    error = (out - model.deviations(pairs.images[rows])).square().mean((1, 2, 3))
    counts = torch.as_tensor(split_evenly(len(rows), len(subsets)))
    rest = torch.as_tensor([subset.rest for subset in subsets]).repeat_interleave(counts).to(error)
    return error / (_PIXEL_STD**2 * rest)


def _fit_linear(model: _Model, train: Pairs, val: Pairs, rng: np.random.Generator) -> None:
    part = model.reconstruction
    if not part.small:
        return
    part.weight = nn.Parameter(torch.zeros(len(model.regression.val_squares), part.inputs), False)
    limit = part.pairs_needed
    squares = torch.zeros(len(part.weight), dtype=torch.float64)

    def batches(pairs: Pairs, *, count_squares: bool) -> Iterator[tuple[Tensor, Tensor]]:
        nonlocal squares
        for rows in _chunks(np.sort(rng.permutation(len(pairs))[:limit])):
            deviations = model.deviations(pairs.images[rows])
            laid = model.lay(pairs.features[rows])
            if count_squares:
                squares += part.rows(laid, deviations)[1].double().square().sum(0).cpu()
            yield laid, deviations

    regression = model.regression
    for prefix, pairs in (("", train), ("val_", val)):
        gram, cross = part.moments(partial(batches, pairs, count_squares=bool(prefix)))
        getattr(regression, f"{prefix}gram").copy_(gram)
        getattr(regression, f"{prefix}cross").copy_(cross)
    regression.val_squares.copy_(squares)
    regression.to("cpu")
    part.weight = nn.Parameter(torch.zeros(0), requires_grad=False)


def _chunks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), _READ_BATCH):
        yield rows[start : start + _READ_BATCH]
