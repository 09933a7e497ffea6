"""The best linear reconstruction from a feature map, in closed form: where the trained decoder starts.

Ridge regression (Hoerl and Kennard 1970) from the features around each place to the block of image pixels
there. The normal equations are summed over batches, so memory does not grow with the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .geometry import Geometry

MAX_WIDE_INPUTS = 1200
"""Most regressors for which the 3x3 neighbourhood of a place is used; with more, the place alone is."""
MAX_INPUTS = 2048
"""Most regressors at all: the solution takes time cubic in them."""
MAX_WEIGHTS = 20_000_000
"""Most coefficients: regressors times pixels of a block. Beyond either, the reconstruction stays zero."""
_MOMENT_FLOPS = 1e11
_RELATIVE_RIDGES = np.logspace(-8, 2, 21)

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


class LinearReconstruction(nn.Module):
    """(n, channels, g, g) laid-out features -> (n, 3, R, R) deviations from the mean image."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.size = geometry.image_size
        self.block = self.size if geometry.vector else -(-self.size // geometry.entry)
        wide = not geometry.vector and geometry.channels * 9 <= MAX_WIDE_INPUTS
        self.kernel = 3 if wide else 1
        inputs, outputs = geometry.channels * self.kernel**2, 3 * self.block**2
        self.small = inputs <= MAX_INPUTS and inputs * outputs <= MAX_WEIGHTS
        shape = (outputs, inputs) if self.small else (0, 0)
        self.weight = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def forward(self, laid: Tensor) -> Tensor:
        if not self.small:
            return laid.new_zeros(len(laid), 3, self.size, self.size)
        if laid.shape[2] == 1:
            blocks = functional.linear(laid.flatten(1), self.weight)[:, :, None, None]
        else:
            weight = self.weight.view(len(self.weight), -1, self.kernel, self.kernel)
            blocks = functional.conv2d(laid, weight, padding=self.kernel // 2)
        return functional.pixel_shuffle(blocks, self.block)[:, :, : self.size, : self.size]

    @property
    def pairs_needed(self) -> int:
        """As many pairs as the normal equations can sum in a few seconds; more would change little."""
        if not self.small:
            return 1
        inputs, places = self.weight.shape[1], (-(-self.size // self.block)) ** 2
        return max(1, int(_MOMENT_FLOPS / (2 * inputs**2 * places)))

    def _rows(self, laid: Tensor, deviations: Tensor) -> tuple[Tensor, Tensor]:
        """Regressors (m, inputs) and pixels (m, outputs), one row a place."""
        inputs = functional.unfold(laid, self.kernel, padding=self.kernel // 2)
        missing = laid.shape[2] * self.block - self.size
        padded = functional.pad(deviations, (0, missing, 0, missing))
        outputs = functional.pixel_unshuffle(padded, self.block).flatten(2)
        return inputs.transpose(1, 2).flatten(0, 1), outputs.transpose(1, 2).flatten(0, 1)

    def fit(self, train: Batches, val: Batches) -> None:
        """Solve on ``train`` batches (laid features, deviations); the ridge is the best one on ``val``."""
        if not self.small:
            return
        gram, cross = self._moments(train)
        val_gram, val_cross = self._moments(val)
        values, vectors = torch.linalg.eigh(gram)
        values = values.clamp(min=0)
        scale = float(values.mean())
        if not scale > 0:
            return
        projected = vectors.T @ cross
        # With W = V diag(s) P, ||Y - XW||^2 on the validation pairs is s'Qs - 2 s'l and a constant.
        quadratic = (vectors.T @ val_gram @ vectors) * (projected @ projected.T)
        linear = (projected * (vectors.T @ val_cross)).sum(1)
        shrinkages = [1 / (values + relative * scale) for relative in _RELATIVE_RIDGES]
        errors = [float(s @ quadratic @ s - 2 * (s @ linear)) for s in shrinkages]
        best = int(np.argmin(errors))
        if errors[best] < 0:
            weight = vectors @ (shrinkages[best][:, None] * projected)
            self.weight.data = weight.T.float().contiguous().to(self.weight.device)

    def _moments(self, batches: Batches) -> tuple[Tensor, Tensor]:
        inputs, outputs = self.weight.shape[1], self.weight.shape[0]
        gram = torch.zeros(inputs, inputs, dtype=torch.float64)
        cross = torch.zeros(inputs, outputs, dtype=torch.float64)
        for laid, deviations in batches():
            x, y = self._rows(laid, deviations)
            gram += (x.T @ x).cpu().double()
            cross += (x.T @ y).cpu().double()
        return gram, cross
