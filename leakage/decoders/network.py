"""The inversion network: from features of any shape to an image of any size."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .geometry import Geometry

_MAX_WIDTH = 128


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(functional.relu(self.first(functional.relu(x))))
        return out


class _Enlarge(nn.Module):
    """A pixel shuffle to ``factor`` times the side, cropped to ``side`` (less where a grid was odd)."""

    def __init__(self, inputs: int, outputs: int, side: int, *, factor: int = 2, kernel: int = 1) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, outputs * factor**2, kernel, padding=kernel // 2)
        self.side, self.factor = side, factor

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.expand(x), self.factor)[:, :, : self.side, : self.side]


class InversionNetwork(nn.Module):
    """Residual blocks on each grid, pixel shuffles between them.

    Input: laid-out features (``Geometry.lay``). Output: (n, 3, R, R), zero at the start: it is what the
    network adds to the linear reconstruction.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        grids = geometry.grids
        finest = 80 if geometry.block == 4 else 64 if len(grids) == 1 else 48
        widths = [min(finest << left, _MAX_WIDTH) for left in reversed(range(len(grids)))]
        self.width = widths[0]
        body = nn.Sequential()
        if geometry.vector:
            side = geometry.entry
            body.append(nn.Flatten())
            body.append(nn.Linear(geometry.channels, widths[0] * side**2))
            body.append(nn.Unflatten(1, (widths[0], side, side)))
        else:
            kernel = 3 if geometry.fold == 1 else 1
            body.append(nn.Conv2d(geometry.channels, widths[0], kernel, padding=kernel // 2))
        for position, grid in enumerate(grids):
            if position:
                body.append(_Enlarge(widths[position - 1], widths[position], grid))
            for _ in range(2 if len(grids) == 1 else 1):
                body.append(_Residual(widths[position]))
        body.append(nn.ReLU())
        last = _Enlarge(widths[-1], 3, geometry.image_size, factor=geometry.block, kernel=3)
        nn.init.zeros_(last.expand.weight)
        assert last.expand.bias is not None
        nn.init.zeros_(last.expand.bias)
        body.append(last)
        self.body = body

    def forward(self, laid: Tensor) -> Tensor:
        out: Tensor = self.body(laid)
        return out
