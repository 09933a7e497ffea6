"""How long a network takes on a target, predicted from the work of its kernels."""

from .features import FEATURES, features_of
from .fitting import Fit, LatencyFit, fit_latency
from .prediction import LatencyPrediction
from .scaling import SCALING, ScalingFit, fit_scaling, scaled_times

__all__ = [
    "FEATURES",
    "SCALING",
    "Fit",
    "LatencyFit",
    "LatencyPrediction",
    "ScalingFit",
    "features_of",
    "fit_latency",
    "fit_scaling",
    "scaled_times",
]
