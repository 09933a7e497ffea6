"""The families of networks that micro-models come from: deep ones, or few blocks somewhere on the way."""

from __future__ import annotations

import random
from collections.abc import Callable

from . import blocks
from .growing import GrowingNetwork

_MOST_MACS = 4e8
_LEAST_SIZE = 3
# Channels and size where shallow networks stand.
_PLACES = (
    *((8, 32), (16, 48), (24, 40), (32, 64), (64, 64), (96, 32), (128, 28), (48, 20), (80, 20), (160, 14)),
    *((256, 14), (112, 10), (256, 8), (512, 7), (192, 5), (320, 5), (512, 4), (640, 3), (96, 56), (16, 96)),
    *((24, 80), (32, 112), (64, 80)),
)
_MOBILE_WIDTHS = (16, 24, 40, 80, 112, 160, 320)
_ACTIVATIONS = ("Relu", "Relu", "Clip", "Clip", "HardSwish", "SiLU")
_WIDTHS = (64, 128, 256, 512, 512, 512)


Family = Callable[[random.Random], GrowingNetwork]


def _begin(
    generator: random.Random, sizes: tuple[int, ...], *, stem: int, window: int = 3, activation: str = "Relu"
) -> GrowingNetwork:
    """An image and its first convolution, of stride 2 unless the image is small."""
    network = GrowingNetwork(generator.choice(sizes))
    stride = 2 if network.size > 40 or generator.random() < 0.3 else 1
    network.convolve(stem, window=window, stride=stride, activation=activation)
    return network


def _goes_on(network: GrowingNetwork) -> bool:
    return network.macs < _MOST_MACS and network.size >= _LEAST_SIZE


def _stages(
    generator: random.Random,
    network: GrowingNetwork,
    widths: tuple[int, ...],
    block: Callable[[int, int], None],
    *,
    shrink: Callable[[], None] | None = None,
) -> None:
    """Up to six stages of one to four blocks, ``block(channels, stride)``; widths are scaled at random.

    ``shrink`` halves the size where a block cannot.
    """
    scale = generator.choice((0.5, 0.75, 1, 1, 1.25))
    for stage in range(generator.randint(1, 6)):
        halves = generator.random() < (0.3 if stage == 0 else 0.75) and network.size > _LEAST_SIZE
        width = widths[min(len(widths) - 1, stage + generator.randint(0, 1))]
        channels = max(8, int(width * scale / 8 + 0.5) * 8)
        for repeat in range(generator.randint(1, 4)):
            if not _goes_on(network):
                return
            stride = 2 if halves and repeat == 0 else 1
            if stride == 2 and shrink is not None:
                shrink()
                stride = 1
            block(channels, stride)


def _mobile(generator: random.Random) -> GrowingNetwork:
    activation = generator.choice(_ACTIVATIONS)
    sizes = (32, 48, 64, 80, 96, 128, 160, 192, 224)
    network = _begin(generator, sizes, stem=generator.choice((16, 32)), activation=activation)
    gated = generator.random() < 0.5

    def block(channels: int, stride: int) -> None:
        blocks.inverted(
            network,
            channels,
            expansion=generator.choice((2, 3, 4, 6)),
            window=generator.choice((3, 3, 5)),
            stride=stride,
            activation=activation,
            gated=gated and generator.random() < 0.6,
        )

    _stages(generator, network, _MOBILE_WIDTHS, block)
    return network


def _residual(generator: random.Random) -> GrowingNetwork:
    network = _classic(generator)
    _stages(
        generator, network, _WIDTHS, lambda channels, stride: blocks.basic(network, channels, stride=stride)
    )
    return network


def _wide(generator: random.Random) -> GrowingNetwork:
    network = _classic(generator)
    _stages(
        generator,
        network,
        _WIDTHS,
        lambda channels, stride: blocks.bottleneck(network, 2 * channels, inner=channels // 2, stride=stride),
    )
    return network


def _grouped(generator: random.Random) -> GrowingNetwork:
    network = _begin(generator, (32, 48, 64, 96, 128, 160), stem=32)
    group, gated = generator.choice((8, 8, 16, 24)), generator.random() < 0.5

    def block(channels: int, stride: int) -> None:
        channels = max(32, channels // 2)
        blocks.bottleneck(network, channels, inner=channels, stride=stride, group=group, gated=gated)

    _stages(generator, network, _WIDTHS, block)
    return network


def _squeezed(generator: random.Random) -> GrowingNetwork:
    network = _begin(generator, (64, 96, 128, 160, 192, 224), stem=64)
    _stages(
        generator,
        network,
        _WIDTHS,
        lambda channels, _: blocks.fire(network, channels),
        shrink=lambda: network.pool(window=3),
    )
    return network


def _densely(generator: random.Random) -> GrowingNetwork:
    network = _classic(generator)

    def shrink() -> None:
        network.convolve(max(16, network.channels // 2))
        network.pool("AveragePool")

    def block(channels: int, stride: int) -> None:
        for _ in range(3):
            blocks.dense(network, generator.choice((16, 32)))

    _stages(generator, network, _WIDTHS, block, shrink=shrink)
    return network


def _plain(generator: random.Random) -> GrowingNetwork:
    network = _classic(generator)
    _stages(
        generator,
        network,
        _WIDTHS,
        lambda channels, _: network.convolve(channels, window=3, activation="Relu"),
        shrink=network.pool,
    )
    return network


def _classic(generator: random.Random) -> GrowingNetwork:
    """A beginning with a 7x7 window and a pooling, often."""
    window = generator.choice((3, 7, 7))
    stem = generator.choice((16, 32, 64))
    network = _begin(generator, (32, 48, 64, 96, 128, 160), stem=stem, window=window)
    if network.input_size >= 64 and generator.random() < 0.7:
        network.pool(window=3, padded=True)
    return network


def _at_a_place(
    generator: random.Random, block: Callable[[GrowingNetwork], None], *, most_channels: int = 640
) -> GrowingNetwork:
    """A few blocks somewhere on the way."""
    channels, size = generator.choice(_PLACES)
    stride = generator.choice((1, 2))
    network = GrowingNetwork(size * stride)
    network.convolve(min(channels, most_channels), window=3, stride=stride, activation="Relu")
    for _ in range(generator.randint(1, 6)):
        if network.macs < _MOST_MACS:
            block(network)
    return network


def _few_mobile(generator: random.Random) -> GrowingNetwork:
    activation = generator.choice(_ACTIVATIONS)
    window, gated = generator.choice((3, 3, 5)), generator.random() < 0.3

    def block(network: GrowingNetwork) -> None:
        channels = network.channels if generator.random() < 0.6 else min(224, 2 * network.channels)
        blocks.inverted(
            network,
            channels,
            expansion=generator.choice((2, 3, 4, 6)) if network.channels * network.size**2 < 2e5 else 2,
            window=window,
            stride=2 if network.size > 6 and generator.random() < 0.25 else 1,
            activation=activation,
            gated=gated,
        )

    return _at_a_place(generator, block, most_channels=192)


def _few_residual(generator: random.Random) -> GrowingNetwork:
    return _at_a_place(generator, lambda network: blocks.basic(network, network.channels))


def _heavy(generator: random.Random) -> GrowingNetwork:
    """So many weights on so few pixels that reading them takes longest."""
    network = GrowingNetwork(generator.choice((2, 3, 4, 6, 7)))
    network.convolve(generator.choice((256, 384, 512)), window=3, activation="Relu")
    for _ in range(generator.randint(1, 3)):
        blocks.basic(network, network.channels)
    return network


def _few_dense(generator: random.Random) -> GrowingNetwork:
    return _at_a_place(generator, lambda network: blocks.dense(network, generator.choice((16, 32))))


def _few_mixed(generator: random.Random) -> GrowingNetwork:
    return _at_a_place(generator, blocks.mixed, most_channels=320)


def _few_shuffled(generator: random.Random) -> GrowingNetwork:
    network = _at_a_place(generator, lambda network: None)
    network.convolve(generator.choice((48, 116, 176, 232)), activation="Relu")
    for _ in range(generator.randint(1, 5)):
        blocks.shuffled(network)
    return network


def _image(generator: random.Random) -> GrowingNetwork:
    """Little but the preparation of the image."""
    network = GrowingNetwork(generator.choice((24, 48, 64, 96, 128, 160, 192, 224)))
    window, stride = generator.choice((1, 3)), generator.choice((2, 3, 4))
    network.convolve(generator.choice((4, 8, 12, 16)), window=window, stride=stride, activation="Relu")
    return network


def _tiny(generator: random.Random) -> GrowingNetwork:
    """So small that the number of kernels counts."""
    network = GrowingNetwork(generator.choice((16, 24, 32, 48)))
    network.convolve(generator.choice((8, 12, 16, 24)), window=3, stride=2, activation="Relu")
    for _ in range(generator.randint(0, 3)):
        blocks.inverted(network, network.channels, expansion=2, gated=generator.random() < 0.5)
    return network


# Mobile networks are what runs on devices most: they come more often.
DEEP: tuple[tuple[str, Family], ...] = (
    ("mobile", _mobile),
    ("residual", _residual),
    ("mobile", _mobile),
    ("wide", _wide),
    ("squeezed", _squeezed),
    ("mobile", _mobile),
    ("dense", _densely),
    ("plain", _plain),
    ("grouped", _grouped),
)
SHALLOW: tuple[tuple[str, Family], ...] = (
    ("few-mobile", _few_mobile),
    ("image", _image),
    ("few-residual", _few_residual),
    ("tiny", _tiny),
    ("few-mobile", _few_mobile),
    ("few-dense", _few_dense),
    ("few-shuffled", _few_shuffled),
    ("heavy", _heavy),
    ("few-mixed", _few_mixed),
)
