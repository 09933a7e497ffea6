"""The PrivyNet search: which encoder a device should run."""

from .constraints import Limits
from .explain import explain
from .search import search
from .space import POLICIES
from .study import SAMPLERS

__all__ = ["POLICIES", "SAMPLERS", "Limits", "explain", "search"]
