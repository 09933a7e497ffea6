"""How long a network takes on a target, predicted from the counts of its kernels."""

from .features import KernelFeatures, LatencyPrediction

__all__ = ["KernelFeatures", "LatencyPrediction"]
