"""Generic names that stand for profiles of the catalogue."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).parents[1] / "aliases.toml"


@dataclass(frozen=True)
class Alias:
    """A generic name, the profile it stands for, and what it is meant for."""

    name: str
    profile: str
    reason: str


@functools.cache
def aliases() -> dict[str, Alias]:
    """All aliases, by name."""
    return {name: Alias(name, **entry) for name, entry in tomllib.loads(_FILE.read_text("utf-8")).items()}
