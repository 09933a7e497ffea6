"""Latency and memory measured on a target by the protocol of docs/devices.md."""

from .affinity import parse_cpus
from .comparison import Ratio, compare
from .machine import read_machine, usable_cores
from .measurement import bench
from .replaying import Replayed, replay
from .sessions import PackResult, Protocol, SessionResult, run_pack, run_session
from .validity import Flag

__all__ = [
    "Flag",
    "PackResult",
    "Protocol",
    "Ratio",
    "Replayed",
    "SessionResult",
    "bench",
    "compare",
    "parse_cpus",
    "read_machine",
    "replay",
    "run_pack",
    "run_session",
    "usable_cores",
]
