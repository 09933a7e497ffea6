"""Latency and memory measured on a target by the protocol of docs/devices.md."""

from .measurement import bench
from .sessions import Protocol, SessionResult, run_session

__all__ = ["Protocol", "SessionResult", "bench", "run_session"]
