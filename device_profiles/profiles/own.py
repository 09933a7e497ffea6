"""The user's own profiles: the TOML files of one folder, found by name as the shipped ones are."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from .schema import DeviceProfile
from .validation import Finding, examine


def own_folder() -> Path:
    """Where own profiles lie: ``$PRIVYNET_DEVICES``, else ``privynet/devices`` in the user's configuration.

    That is ``$XDG_CONFIG_HOME``, else ``~/Library/Application Support`` on macOS and ``~/.config`` elsewhere.
    """
    given = os.environ.get("PRIVYNET_DEVICES")
    if given:
        return Path(given).absolute()
    base = os.environ.get("XDG_CONFIG_HOME", "")
    default = Path("Library", "Application Support") if sys.platform == "darwin" else Path(".config")
    # The specification has a relative path ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / default) / "privynet" / "devices"


@dataclass(frozen=True)
class OwnProfile:
    """A file of the user's folder: the profile in it, or what keeps it from being used."""

    path: Path
    profile: DeviceProfile | None
    findings: tuple[Finding, ...]


def own_profiles(taken: Collection[str]) -> list[OwnProfile]:
    """Every ``NAME.toml`` of the user's folder, by name; one whose name is ``taken`` cannot be used."""
    return [_own_profile(path, taken) for path in sorted(own_folder().glob("*.toml"))]


def _own_profile(path: Path, taken: Collection[str]) -> OwnProfile:
    try:
        profile, findings = examine(path)
    except InputError as error:
        return OwnProfile(path, None, (Finding("not-read", "error", 1, error.message),))
    if profile is not None and path.stem in taken:
        message = f"{path.stem} is a shipped profile's name: rename the file and the profile in it"
        return OwnProfile(path, None, (Finding("name-taken", "error", 1, message),))
    if profile is not None and path.stem != profile.name:
        message = f"the profile is called {profile.name}: the file must be {profile.name}.toml"
        return OwnProfile(path, None, (Finding("other-name", "error", 1, message),))
    return OwnProfile(path, profile, tuple(findings))
