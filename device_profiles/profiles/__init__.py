"""Device profiles: what a target is, what an encoder may spend and leak there; the catalogue and own ones."""

from .aliases import Alias, aliases
from .json_schema import profile_schema
from .latency_model import LatencyModel, Precision
from .own import OwnProfile, own_folder
from .reading import CATALOGUE, catalogue, check_name, list_profiles, load_profile
from .schema import SCHEMA_VERSION, DeviceProfile
from .validation import validate_profile
from .writing import profile_text, write_profile

__all__ = [
    "CATALOGUE",
    "SCHEMA_VERSION",
    "Alias",
    "DeviceProfile",
    "LatencyModel",
    "OwnProfile",
    "Precision",
    "aliases",
    "catalogue",
    "check_name",
    "list_profiles",
    "load_profile",
    "own_folder",
    "profile_schema",
    "profile_text",
    "validate_profile",
    "write_profile",
]
