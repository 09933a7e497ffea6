"""The inversion networks: three architectures from features of any shape to an image of any size.

Each takes laid-out features (``Geometry.lay``) and gives (n, 3, R, R), zero at the start: it is what the
network adds to the linear reconstruction. ``width`` is that of the first grid, which sets the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn, rand
from torch.nn import functional

from .geometry import Geometry

_MAX_WIDTH = 128
# Plain rectifiers sometimes all died in the first steps, and left the linear reconstruction alone.
_SLOPE = 0.1
_DROPOUT = 0.2
_FEW_PLACES = 2
"""The side of the coarsest grid: a 3x3 convolution sees all of it from each place."""


def _rectified(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _SLOPE)


def _some_channels(laid: Tensor) -> Tensor:
    """Each channel of each image lost or not, drawn on the CPU: alike wherever the network computes."""
    kept = rand(laid.shape[:2]) >= _DROPOUT
    return laid * kept[:, :, None, None].to(laid) / (1 - _DROPOUT)


class InversionNetwork(nn.Module):
    """Laid-out features -> (n, 3, R, R), for the shapes of one geometry."""

    width: int


class Residual(nn.Module):
    """Two convolutions added to what they are given, nothing at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(_rectified(self.first(_rectified(x))))
        return out


class _Enlarge(nn.Module):
    """A pixel shuffle to ``factor`` times the side, cropped to ``side`` (less where a grid was odd)."""

    def __init__(self, inputs: int, outputs: int, side: int, *, factor: int = 2, kernel: int = 1) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, outputs * factor**2, kernel, padding=kernel // 2)
        self.side, self.factor = side, factor

    def forward(self, x: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.expand(x), self.factor)[:, :, : self.side, : self.side]


def _entrance(geometry: Geometry, width: int) -> nn.Sequential:
    """Features to ``width`` channels on the entry grid."""
    if geometry.vector:
        side = geometry.entry
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(geometry.channels, width * side**2),
            nn.Unflatten(1, (width, side, side)),
        )
    kernel = 3 if geometry.fold == 1 else 1
    return nn.Sequential(nn.Conv2d(geometry.channels, width, kernel, padding=kernel // 2))


def _exit(geometry: Geometry, width: int, block: int) -> nn.Sequential:
    """A grid of ``width`` channels to the image, ``block`` x ``block`` pixels a place; zero at the start."""
    last = _Enlarge(width, 3, geometry.image_size, factor=block, kernel=3)
    nn.init.zeros_(last.expand.weight)
    assert last.expand.bias is not None
    nn.init.zeros_(last.expand.bias)
    return nn.Sequential(nn.LeakyReLU(_SLOPE), last)


class ResidualNetwork(InversionNetwork):
    """Residual blocks on each grid, pixel shuffles between them.

    ``entrance`` gives ``width`` channels on the entry grid, ``body`` takes them to the image.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        grids = geometry.grids
        finest = 80 if geometry.block == 4 else 64 if len(grids) == 1 else 48
        widths = [min(finest << left, _MAX_WIDTH) for left in reversed(range(len(grids)))]
        self.width = widths[0]
        self.entrance = _entrance(geometry, widths[0])
        body = nn.Sequential()
        for position, grid in enumerate(grids):
            if position:
                body.append(_Enlarge(widths[position - 1], widths[position], grid))
            for _ in range(2 if len(grids) == 1 else 1):
                body.append(Residual(widths[position]))
        body.extend(_exit(geometry, widths[-1], geometry.block))
        self.body = body

    def forward(self, laid: Tensor) -> Tensor:
        out: Tensor = self.body(self.entrance(laid))
        return out


class SmallNetwork(InversionNetwork):
    """One residual block on the entry grid, then pixels: few weights for few pairs, many epochs a second.

    While training it loses channels at random, which keeps it from learning few pairs by heart.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.width = 48 if geometry.entry >= 16 else 96 if geometry.entry >= 8 else 128
        block = -(-geometry.image_size // geometry.entry)
        self.body = _entrance(geometry, self.width)
        self.body.append(Residual(self.width))
        self.body.extend(_exit(geometry, self.width, block))

    def forward(self, laid: Tensor) -> Tensor:
        out: Tensor = self.body(_some_channels(laid) if self.training else laid)
        return out


class _Shrink(nn.Module):
    """Half the side: blocks of 2 x 2 places into channels, a row and a column of zeros where it is odd."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.gather = nn.Conv2d(4 * inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        odd = x.shape[2] % 2
        out: Tensor = self.gather(functional.pixel_unshuffle(functional.pad(x, (0, odd, 0, odd)), 2))
        return out


class _Context(nn.Module):
    """Down to a grid of a few places and up again, added: every place learns of all others."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        inner = min(2 * width, _MAX_WIDTH)
        half = -(-side // 2)
        self.down = _Shrink(width, inner)
        self.within = nn.Sequential(Residual(inner))
        if half > _FEW_PLACES:
            self.within.append(_Context(inner, half))
        self.up = _Enlarge(inner, width, side)
        nn.init.zeros_(self.up.expand.weight)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.within(self.down(_rectified(x)))
        out: Tensor = x + self.up(_rectified(inner))
        return out


class UNet(InversionNetwork):
    """From the entry grid down to a few places and up to the image, sums in place of skips.

    After Ronneberger et al. 2015. Every pixel sees all of the features: what a late cut keeps of the image
    does not lie where it came from.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        grids = geometry.grids
        finest = 80 if geometry.block == 4 else 48
        widths = [min(finest << left, _MAX_WIDTH) for left in reversed(range(len(grids)))]
        self.width = widths[0]
        body = _entrance(geometry, widths[0])
        for position, grid in enumerate(grids):
            if position:
                body.append(_Enlarge(widths[position - 1], widths[position], grid))
            if not position:
                body.append(_Context(widths[position], grid))
            body.append(Residual(widths[position]))
        body.extend(_exit(geometry, widths[-1], geometry.block))
        self.body = body

    def forward(self, laid: Tensor) -> Tensor:
        out: Tensor = self.body(laid)
        return out


ARCHITECTURES: Mapping[str, Callable[[Geometry], InversionNetwork]] = {
    "small": SmallNetwork,
    "residual": ResidualNetwork,
    "unet": UNet,
}
"""By the name that ``train_decoder`` takes."""
