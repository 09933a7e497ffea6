"""The best linear reconstruction from a feature map, in closed form: where the trained decoders start.

Ridge regression (Hoerl and Kennard 1970) from the features around each place to the block of image pixels
there, or from all features to all pixels. The normal equations are summed over batches, so memory does not
grow with the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .geometry import Geometry

MAX_WIDE_INPUTS = 1200
"""Most regressors for which a decoder starts from 3x3 neighbourhoods; with more, from the place alone."""
MAX_INPUTS = 2048
"""Most regressors at all: the solution takes time cubic in them."""
MAX_WEIGHTS = 20_000_000
"""Most coefficients: regressors times pixels of a block. Beyond either, the reconstruction stays zero."""
MOMENT_FLOPS = 1e11
"""Floating-point operations that summing the normal equations may take: about two seconds of one core."""
_RELATIVE_RIDGES = np.logspace(-8, 2, 11)
_PROBED_OUTPUTS = 256
"""Pixels by which the ridge is chosen, evenly spaced."""

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


class LinearReconstruction(nn.Module):
    """(n, channels, g, g) laid-out features -> (n, 3, R, R) deviations from the mean image.

    ``kernel``: the neighbourhood's side in places, odd; 0 for all places at once; ``None`` for what a
    decoder starts from. Zero until fitted; stays so where ``small`` is false.
    """

    def __init__(
        self, geometry: Geometry, kernel: int | None = None, *, moment_flops: float = MOMENT_FLOPS
    ) -> None:
        super().__init__()
        if kernel is None:
            kernel = 3 if geometry.channels * 9 <= MAX_WIDE_INPUTS else 1
        self.size = geometry.image_size
        self.whole = geometry.vector or not kernel
        self.kernel = 1 if self.whole else kernel
        self.block = self.size if self.whole else -(-self.size // geometry.entry)
        places = geometry.entry**2 if self.whole and not geometry.vector else self.kernel**2
        inputs, outputs = geometry.channels * places, 3 * self.block**2
        self.inputs = inputs
        self.small = inputs <= MAX_INPUTS and inputs * outputs <= MAX_WEIGHTS
        self.moment_flops = moment_flops
        shape = (outputs, inputs) if self.small else (0, 0)
        self.weight = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def forward(self, laid: Tensor) -> Tensor:
        return self.reconstruct(laid, self.weight)

    def reconstruct(self, laid: Tensor, weight: Tensor) -> Tensor:
        """``forward`` with other coefficients (outputs, regressors), maybe of some of the channels only."""
        if not self.small:
            return laid.new_zeros(len(laid), 3, self.size, self.size)
        if self.whole:
            blocks = functional.linear(laid.flatten(1), weight)[:, :, None, None]
        else:
            kernels = weight.view(len(weight), -1, self.kernel, self.kernel)
            blocks = functional.conv2d(laid, kernels, padding=self.kernel // 2)
        return functional.pixel_shuffle(blocks, self.block)[:, :, : self.size, : self.size]

    @property
    def pairs_needed(self) -> int:
        """As many pairs as the normal equations can sum in a few seconds; more would change little."""
        if not self.small:
            return 1
        return max(1, int(self.moment_flops / self._pair_flops))

    @property
    def _pair_flops(self) -> float:
        places = (-(-self.size // self.block)) ** 2
        return 2.0 * self.inputs * (self.inputs + len(self.weight)) * places

    def flops(self, pairs: int) -> float:
        """Floating-point operations of a fit to so many pairs, about."""
        return self._pair_flops * min(pairs, self.pairs_needed) + len(_RELATIVE_RIDGES) * self.inputs**3

    def rows(self, laid: Tensor, deviations: Tensor) -> tuple[Tensor, Tensor]:
        """Regressors (m, inputs) and pixels (m, outputs), one row a place."""
        if self.whole:
            inputs = laid.flatten(1)[:, :, None]
            missing = 0
        else:
            inputs = functional.unfold(laid, self.kernel, padding=self.kernel // 2)
            missing = laid.shape[2] * self.block - self.size
        padded = functional.pad(deviations, (0, missing, 0, missing))
        outputs = functional.pixel_unshuffle(padded, self.block).flatten(2)
        return inputs.transpose(1, 2).flatten(0, 1), outputs.transpose(1, 2).flatten(0, 1)

    def fit(self, train: Batches, val: Batches) -> None:
        """Solve on ``train`` batches (laid features, deviations); the ridge is the best one on ``val``."""
        if not self.small:
            return
        gram, cross = self.moments(train)
        val_gram, val_cross = self.moments(val)
        scale = float(gram.diagonal().mean())
        if not scale > 0:
            return
        probed = slice(None, None, -(-cross.shape[1] // _PROBED_OUTPUTS))
        least, best = 0.0, None
        for relative in _RELATIVE_RIDGES:
            damped = gram.clone()
            damped.diagonal().add_(float(relative) * scale)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if int(failed):
                continue
            weight = torch.cholesky_solve(cross[:, probed], factor)
            # ||Y - XW||^2 on the validation pairs, less the constant ||Y||^2.
            error = float((weight * (val_gram @ weight - 2 * val_cross[:, probed])).sum())
            if error < least:
                least, best = error, factor
        if best is not None:
            weight = torch.cholesky_solve(cross, best)
            self.weight.data = weight.T.float().contiguous().to(self.weight.device)

    def moments(self, batches: Batches) -> tuple[Tensor, Tensor]:
        """Sums over the batches' rows: regressors by regressors, and regressors by pixels; float64."""
        inputs, outputs = self.weight.shape[1], self.weight.shape[0]
        gram = torch.zeros(inputs, inputs, dtype=torch.float64)
        cross = torch.zeros(inputs, outputs, dtype=torch.float64)
        for laid, deviations in batches():
            x, y = self.rows(laid, deviations)
            gram += (x.T @ x).cpu().double()
            cross += (x.T @ y).cpu().double()
        return gram, cross
