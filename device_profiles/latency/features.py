"""How long a network takes on a target, from the counts of its kernels: a linear model with an interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...encoders import Kernel


@dataclass(frozen=True)
class KernelFeatures:
    """What the time of one network is a linear function of.

    Attributes:
        conv3x3s1: GMACs in dense 3x3 convolutions of stride 1, for which runtimes have Winograd's algorithm.
        dense: GMACs in all other convolutions that are not depthwise, pointwise ones included.
        depthwise: GMACs in depthwise convolutions.
        linear: millions of weights in linear layers.
        activations: millions of elements read and written by all kernels.
        kernels: number of kernels.
    """

    conv3x3s1: float
    dense: float
    depthwise: float
    linear: float
    activations: float
    kernels: int

    @classmethod
    def of(cls, kernels: Iterable[Kernel]) -> KernelFeatures:
        """The features of a network with these kernels."""
        listed = list(kernels)

        def gmacs(*kinds: str) -> float:
            return sum(kernel.macs for kernel in listed if kernel.kind in kinds) / 1e9

        return cls(
            conv3x3s1=gmacs("conv3x3s1"),
            dense=gmacs("conv", "pointwise", "grouped"),
            depthwise=gmacs("depthwise"),
            linear=sum(kernel.weights for kernel in listed if kernel.kind == "linear") / 1e6,
            activations=sum(kernel.input_elements + kernel.output_elements for kernel in listed) / 1e6,
            kernels=len(listed),
        )

    def work(self) -> tuple[float, float, float, float, float]:
        """The five features the coefficients belong to, in their order."""
        return (self.conv3x3s1, self.dense, self.depthwise, self.linear, self.activations)


@dataclass(frozen=True)
class LatencyPrediction:
    """Predicted time of one image (batch 1) in milliseconds, and the interval the time is expected in.

    ``estimated`` is always true: the prediction comes from published figures of other networks, not from a
    measurement.
    """

    ms: float
    low: float
    high: float
    estimated: bool = True
