"""Device profiles: what a target is, what an encoder may spend and leak on it, how fast it is.

The shipped catalogue lies in ``catalogue/*.toml``; docs/devices.md explains the format and the protocol.
"""

from .costs import graph_costs
from .latency import LatencyPrediction
from .measuring import Replayed, bench, compare, parse_cpus, replay
from .metrics import METRICS, Metric, parse_limits
from .profiles import (
    CATALOGUE,
    DeviceProfile,
    aliases,
    catalogue,
    list_profiles,
    load_profile,
    profile_schema,
    validate_profile,
    write_profile,
)
from .targets import open_target

__all__ = [
    "CATALOGUE",
    "METRICS",
    "DeviceProfile",
    "LatencyPrediction",
    "Metric",
    "Replayed",
    "aliases",
    "bench",
    "catalogue",
    "compare",
    "graph_costs",
    "list_profiles",
    "load_profile",
    "open_target",
    "parse_cpus",
    "parse_limits",
    "profile_schema",
    "replay",
    "validate_profile",
    "write_profile",
]
