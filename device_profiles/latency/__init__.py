"""How long a network takes on a target, predicted from the work of its kernels."""

from .features import FEATURES, features_of
from .fitting import LatencyFit, fit_latency
from .prediction import LatencyPrediction

__all__ = ["FEATURES", "LatencyFit", "LatencyPrediction", "features_of", "fit_latency"]
