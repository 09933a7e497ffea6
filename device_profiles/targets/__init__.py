"""Where a measurement runs: this machine, a board over SSH, a phone over adb; one interface for all."""

from .opening import open_target
from .target import ConnectionCut, Ending, Running, Target

__all__ = ["ConnectionCut", "Ending", "Running", "Target", "open_target"]
