"""Device profiles: what a target is, what an encoder may spend and leak on it, how fast it is.

The shipped catalogue lies in ``catalogue/*.toml``; docs/devices.md explains the format and the protocol.
"""

from .costs import GraphCosts, graph_costs
from .latency import LatencyPrediction
from .measuring import bench, compare, parse_cpus
from .metrics import METRICS, Metric, parse_limits
from .profiles import CATALOGUE, DeviceProfile, catalogue, load_profile, validate_profile

__all__ = [
    "CATALOGUE",
    "METRICS",
    "DeviceProfile",
    "GraphCosts",
    "LatencyPrediction",
    "Metric",
    "bench",
    "catalogue",
    "compare",
    "graph_costs",
    "load_profile",
    "parse_cpus",
    "parse_limits",
    "validate_profile",
]
