"""Finds profiles: the shipped ones and the user's own by name, generic names, and any file by its path."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, unknown
from .aliases import Alias, aliases
from .own import OwnProfile, own_folder, own_profiles
from .schema import NAME_PATTERN, DeviceProfile
from .validation import read_profile

CATALOGUE = Path(__file__).parents[1] / "catalogue"


def load_profile(name_or_path: str) -> DeviceProfile:
    """The profile of that name (shipped, a generic name, or in the user's folder), or in that file.

    Raises :class:`InputError` for an unknown name, one that two profiles have, a missing file, and the first
    error in the file, naming file, line and key.
    """
    path = Path(name_or_path)
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(".toml"):
        return read_profile(path)
    own = {found.path.stem: found for found in _own()}
    if name_or_path in own:
        found = own[name_or_path]
        if found.profile is None:
            finding = found.findings[0]
            raise InputError(
                f"{found.path}:{finding.line}: {finding.message}",
                hint="privynet devices list shows what can be used",
            )
        return found.profile
    name = aliases()[name_or_path].profile if name_or_path in aliases() else name_or_path
    if name in _shipped_names():
        return read_profile(CATALOGUE / f"{name}.toml")
    if path.is_file():
        return read_profile(path)
    raise unknown("device", name_or_path, [*_shipped_names(), *aliases(), *own])


def check_name(name: str) -> None:
    """Raise :class:`InputError` unless a profile of one's own can be called so, and be found by that name."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise InputError(
            f"{name!r} is no name for a device", hint="use lower case letters, digits, '-' and '.'"
        )
    if name.endswith(".toml"):
        raise InputError(
            f"{name!r} would be read as a file's path", hint=f"call it {name.removesuffix('.toml')}"
        )
    if name in (*_shipped_names(), *aliases()):
        raise InputError(f"{name} is a shipped profile's name", hint=f"choose another one, such as my-{name}")


@functools.cache
def catalogue() -> tuple[DeviceProfile, ...]:
    """The shipped profiles, by name."""
    return tuple(read_profile(CATALOGUE / f"{name}.toml") for name in _shipped_names())


@dataclass(frozen=True)
class Devices:
    """All that ``--device`` takes by name; ``own`` holds the files that cannot be used, too."""

    shipped: tuple[DeviceProfile, ...]
    aliases: tuple[Alias, ...]
    own: tuple[OwnProfile, ...]
    own_folder: Path


def list_profiles() -> Devices:
    """The shipped profiles, their aliases, and the files of the user's folder."""
    return Devices(catalogue(), tuple(aliases().values()), tuple(_own()), own_folder())


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in CATALOGUE.glob("*.toml"))


def _own() -> list[OwnProfile]:
    return own_profiles(taken={*_shipped_names(), *aliases()})
