"""Device profiles: what a target is, what an encoder may spend and leak there; the catalogue and own ones."""

from .reading import CATALOGUE, catalogue, load_profile
from .schema import DeviceProfile
from .validation import validate_profile
from .writing import profile_text, write_profile

__all__ = [
    "CATALOGUE",
    "DeviceProfile",
    "catalogue",
    "load_profile",
    "profile_text",
    "validate_profile",
    "write_profile",
]
