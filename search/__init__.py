"""The PrivyNet search: which encoder a device should run."""

from .explain import explain
from .limits import Limits
from .policies import POLICIES
from .search import search
from .study import SAMPLERS

__all__ = ["POLICIES", "SAMPLERS", "Limits", "explain", "search"]
