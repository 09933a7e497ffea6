"""``privynet devices``: the catalogue of targets, and the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ..console import Screen
from ..device_tables import findings_table, profile_tables, profiles_tables, schema_text
from ..options import Debug, Json, Seed

if TYPE_CHECKING:
    from ...device_profiles import DeviceProfile


def list_(as_json: Json = False, seed: Seed = 0, debug: Debug = False) -> None:
    """List the targets that have a profile: shipped ones, generic names for them, and your own."""
    from ...device_profiles import list_profiles

    found = list_profiles()
    own = [entry.profile for entry in found.own if entry.profile is not None]
    result = {
        "devices": [_listed(profile, own=False) for profile in found.shipped]
        + [_listed(profile, own=True) for profile in own],
        "aliases": [
            {"name": alias.name, "profile": alias.profile, "reason": alias.reason} for alias in found.aliases
        ],
        "own_folder": str(found.own_folder),
        "unusable": [
            {"file": str(entry.path), "line": entry.findings[0].line, "message": entry.findings[0].message}
            for entry in found.own
            if entry.profile is None
        ],
    }
    Screen(as_json=as_json, seed=seed).show(result, profiles_tables)


def _listed(profile: DeviceProfile, *, own: bool) -> dict[str, Any]:
    return {
        "name": profile.name,
        "title": profile.title,
        "class": profile.device_class,
        "limits": profile.limits,
        "latency_error": profile.latency_error,
        "own": own,
    }


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="As --device takes it.")],
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Show a profile: its limits with their reasons, its latency model, the source of each figure."""
    from ...device_profiles import aliases, load_profile

    profile = load_profile(name)
    alias = aliases().get(name)
    result = {
        "profile": profile.document(),
        "alias": {"name": alias.name, "reason": alias.reason} if alias else None,
    }
    Screen(as_json=as_json, seed=seed).show(result, profile_tables)


def schema(as_json: Json = False, seed: Seed = 0, debug: Debug = False) -> None:
    """Print the JSON Schema of a profile, for editors."""
    from ...device_profiles import profile_schema

    Screen(as_json=as_json, seed=seed).show({"schema": profile_schema()}, schema_text)


def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A profile (TOML).")],
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Check a profile and list all findings; exit code 2 when it cannot be used."""
    from ...artifacts import file_digest
    from ...device_profiles import validate_profile

    findings = validate_profile(file)
    result = {"findings": findings, "inputs": {"profile": file_digest(file)}}
    Screen(as_json=as_json, seed=seed).show(result, findings_table)
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if errors:
        raise InputError(
            f"{file}:{errors[0]['line']}: {errors[0]['message']}", hint="privynet devices show has an example"
        )
