"""Finds profiles: the shipped ones by name, the user's own by path."""

from __future__ import annotations

import functools
from pathlib import Path

from ...errors import unknown
from .schema import DeviceProfile
from .validation import read_profile

CATALOGUE = Path(__file__).parents[1] / "catalogue"


def load_profile(name_or_path: str) -> DeviceProfile:
    """The shipped profile of that name, or the profile in the file at that path.

    Raises :class:`InputError` for an unknown name, a missing file, and the first error in the file, naming
    file, line and key.
    """
    shipped = CATALOGUE / f"{name_or_path}.toml"
    is_path = "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(".toml")
    if not is_path and shipped.is_file():
        return read_profile(shipped)
    path = Path(name_or_path)
    if is_path or path.is_file():
        return read_profile(path)
    raise unknown("device", name_or_path, _shipped_names())


@functools.cache
def catalogue() -> tuple[DeviceProfile, ...]:
    """The shipped profiles, by name."""
    return tuple(read_profile(CATALOGUE / f"{name}.toml") for name in _shipped_names())


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in CATALOGUE.glob("*.toml"))
