"""Calibration: a pack of micro-models is timed on a target, and its latency model fitted to the times."""

from .calibrate import Calibration, calibrate
from .micro_models import MicroModel, micro_models

__all__ = ["Calibration", "MicroModel", "calibrate", "micro_models"]
