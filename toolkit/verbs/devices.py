"""``privynet devices``: the catalogue of targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ..console import Screen, table
from ..options import Debug, Json, Seed

if TYPE_CHECKING:
    import rich.table


def list_(as_json: Json = False, seed: Seed = 0, debug: Debug = False) -> None:
    """List the targets that have a profile."""
    from ...device_profiles import catalogue

    devices = [
        {
            "name": profile.name,
            "title": profile.title,
            "class": profile.device_class,
            "limits": profile.limits,
        }
        for profile in catalogue()
    ]
    Screen(as_json=as_json, seed=seed).show({"devices": devices}, _listed)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Of the catalogue, or a profile.")],
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Show a profile: its limits with their reasons, its latency model, the source of each figure."""
    from ...device_profiles import load_profile

    profile = load_profile(name)
    Screen(as_json=as_json, seed=seed).show({"profile": profile.document()}, _shown)


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
    Screen(as_json=as_json, seed=seed).show(result, _found)
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if errors:
        line = f":{errors[0]['line']}" if errors[0]["line"] else ""
        raise InputError(f"{file}{line}: {errors[0]['message']}", hint="privynet devices show has an example")


def _listed(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    rows = [
        (
            device["name"],
            device["title"],
            device["class"],
            ", ".join(f"{metric} {value:g}" for metric, value in device["limits"].items()),
        )
        for device in result["devices"]
    ]
    yield table(["name", "target", "class", "limits"], rows)


def _shown(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    profile = result["profile"]
    yield f"{profile['title']} ({profile['name']}): {profile['core_type']}, {profile['runtime']}"
    rows = [(metric, f"{limit['value']:g}", limit["reason"]) for metric, limit in profile["limits"].items()]
    yield table(["limit", ">value", "reason"], rows)
    yield table(["figure", ">value", "unit", "kind", "source"], _figures(profile))


def _figures(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Every figure of a profile, by its key in the file."""
    for key, value in section.items():
        if not isinstance(value, Mapping) or key == "limits":
            continue
        if "unit" in value:
            spread = f" ({value['low']:g} to {value['high']:g})" if "low" in value else ""
            yield (
                prefix + key,
                f"{value['value']:g}{spread}",
                value["unit"],
                value["kind"],
                value["source"],
            )
        else:
            yield from _figures(value, f"{prefix}{key}.")


def _found(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    if not result["findings"]:
        yield "no findings: the profile can be used"
        return
    rows = [(f["severity"], f["line"] or "", f["code"], f["message"]) for f in result["findings"]]
    yield table(["severity", ">line", "code", "finding"], rows)
