"""The PrivyNet search: which encoder a device should run."""

from .limits import Limits
from .search import search
from .study import SAMPLERS

__all__ = ["SAMPLERS", "Limits", "search"]
