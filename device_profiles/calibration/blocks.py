"""The blocks that networks for images are built of."""

from __future__ import annotations

from .growing import GrowingNetwork


def gate(network: GrowingNetwork, *, activation: str, mean: str) -> None:
    """Squeeze and excitation: channels scaled by what their means say."""
    branch = network.fork()
    axes = [branch.integers(2, 3)] if mean == "ReduceMean" else []
    branch.apply(mean, *axes)
    branch.size = 1
    branch.convolve(max(4, network.channels // 4), activation="Relu")
    branch.convolve(network.channels, activation=activation)
    network.join("Mul", branch)


def inverted(
    network: GrowingNetwork,
    channels: int,
    *,
    expansion: int,
    window: int = 3,
    stride: int = 1,
    activation: str = "Relu",
    gated: bool = False,
) -> None:
    """MobileNet's: expand, depthwise, project, and a residual where the shape stays."""
    before = network.fork()
    network.convolve(before.channels * expansion, activation=activation)
    network.convolve(
        network.channels, window=window, stride=stride, groups=network.channels, activation=activation
    )
    if gated:
        mean = "ReduceMean" if window == 3 else "GlobalAveragePool"
        gate(network, activation="HardSigmoid", mean=mean)
    network.convolve(channels)
    if stride == 1 and channels == before.channels:
        network.join("Add", before)


def basic(network: GrowingNetwork, channels: int, *, stride: int = 1) -> None:
    """ResNet's of two 3x3 convolutions."""
    before = network.fork()
    network.convolve(channels, window=3, stride=stride, activation="Relu")
    network.convolve(channels, window=3)
    _residual(network, before, stride)


def bottleneck(
    network: GrowingNetwork,
    channels: int,
    *,
    inner: int,
    stride: int = 1,
    group: int | None = None,
    gated: bool = False,
) -> None:
    """ResNet's of 1x1, 3x3 and 1x1; with groups of ``group`` channels, RegNet's."""
    before = network.fork()
    inner = inner // group * group if group else inner
    network.convolve(inner, activation="Relu")
    network.convolve(inner, window=3, stride=stride, groups=inner // group if group else 1, activation="Relu")
    if gated:
        gate(network, activation="Sigmoid", mean="ReduceMean")
    network.convolve(channels)
    _residual(network, before, stride)


def _residual(network: GrowingNetwork, before: GrowingNetwork, stride: int) -> None:
    if stride != 1 or network.channels != before.channels:
        before.convolve(network.channels, stride=stride)
    network.join("Add", before)
    network.apply("Relu")


def fire(network: GrowingNetwork, channels: int) -> None:
    """SqueezeNet's: squeeze, then 1x1 and 3x3 side by side."""
    network.convolve(max(8, channels // 8), activation="Relu")
    branch = network.fork()
    network.convolve(channels // 2, activation="Relu")
    branch.convolve(channels // 2, window=3, activation="Relu")
    network.join("Concat", branch, axis=1)
    network.channels = channels // 2 * 2


def dense(network: GrowingNetwork, growth: int) -> None:
    """DenseNet's: some channels more."""
    before = network.fork()
    network.convolve(4 * growth, activation="Relu")
    network.convolve(growth, window=3, activation="Relu")
    before.join("Concat", network, axis=1)
    network.tensor, network.channels = before.tensor, before.channels + growth


def mixed(network: GrowingNetwork) -> None:
    """ConvNeXt's: a wide depthwise window, then linear layers over channels that come last."""
    before = network.fork()
    network.convolve(network.channels, window=7, groups=network.channels)
    network.apply("Transpose", perm=[0, 2, 3, 1])
    network.project(4 * before.channels)
    network.gate_by_sigmoid()
    network.project(before.channels)
    network.apply("Transpose", perm=[0, 3, 1, 2])
    network.join("Add", before)


def shuffled(network: GrowingNetwork) -> None:
    """ShuffleNet's: half of the channels pass by, and all are shuffled."""
    half, size = network.channels // 2, network.size
    kept, worked = network.add_many("Split", network.tensor, network.integers(half, half), outputs=2, axis=1)
    network.tensor, network.channels = worked, half
    network.convolve(half, activation="Relu")
    network.convolve(half, window=3, groups=half)
    network.convolve(half, activation="Relu")
    network.tensor = network.add("Concat", kept, network.tensor, axis=1)
    network.channels = 2 * half
    network.apply("Reshape", network.integers(1, 2, half, size, size))
    network.apply("Transpose", perm=[0, 2, 1, 3, 4])
    network.apply("Reshape", network.integers(1, 2 * half, size, size))
