"""How long a network takes on a target, predicted from the work of its kernels."""

from .features import FEATURES, features_of
from .prediction import LatencyPrediction

__all__ = ["FEATURES", "LatencyPrediction", "features_of"]
