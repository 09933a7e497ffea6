"""Latency and memory measured on a target by the protocol of docs/devices.md."""

from .affinity import parse_cpus
from .comparison import Ratio, compare
from .measurement import bench
from .sessions import Protocol, SessionResult, run_session

__all__ = ["Protocol", "Ratio", "SessionResult", "bench", "compare", "parse_cpus", "run_session"]
