"""Device profiles: what a target is, what an encoder may spend and leak on it, how fast it is.

The shipped catalogue lies in ``catalogue/*.toml``; docs/devices.md explains the format and the protocol.
"""

from .latency import LatencyPrediction
from .measurement import bench
from .metrics import METRICS, Metric, parse_limits
from .reading import catalogue, load_profile, validate_profile
from .schema import DeviceProfile

__all__ = [
    "METRICS",
    "DeviceProfile",
    "LatencyPrediction",
    "Metric",
    "bench",
    "catalogue",
    "load_profile",
    "parse_limits",
    "validate_profile",
]
