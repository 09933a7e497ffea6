"""Device profiles: what a target is, what an encoder may spend and leak there; the catalogue and own ones."""

from .reading import CATALOGUE, catalogue, load_profile, validate_profile
from .schema import DeviceProfile

__all__ = ["CATALOGUE", "DeviceProfile", "catalogue", "load_profile", "validate_profile"]
