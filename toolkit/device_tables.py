"""Device profiles as tables: many in a line each, and one with all its figures and where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .console import table

if TYPE_CHECKING:
    import rich.table

_COLUMNS = {
    "macs": ("MACs", "10^6", 1e6),
    "weights_kb": ("weights", "MiB", 1024),
    "peak_ram_kb": ("RAM", "MiB", 1024),
    "storage_kb": ("file", "MiB", 1024),
    "latency_ms": ("time", "ms", 1),
    "payload_bytes": ("payload", "KiB", 1024),
    "psnr_db": ("PSNR", "dB", 1),
    "ssim": ("SSIM", "", 1),
    "r2": ("r2", "", 1),
}
"""What a limit is called over a column, the unit it is shown in there, and how many of its own that is."""


def profiles_tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """All profiles, a line each; then the generic names, and the files that cannot be used."""
    shipped = [device for device in result["devices"] if not device["own"]]
    own = [device for device in result["devices"] if device["own"]]
    yield "shipped, with the limits that each sets and its latency model's median error for unseen networks:"
    yield from _profiles(shipped)
    yield "generic names, each for the slowest of its kind above:"
    yield table(
        ["name", "stands for", "kind"],
        [(alias["name"], alias["profile"], alias["reason"]) for alias in result["aliases"]],
    )
    if own:
        yield f"your own, in {result['own_folder']}:"
        yield from _profiles(own)
    for file in result["unusable"]:
        yield f"cannot be used: {file['file']}:{file['line']}: {file['message']}"
    if not own and not result["unusable"]:
        yield f"your own would be in {result['own_folder']}: there are none"


def _profiles(devices: Sequence[Mapping[str, Any]]) -> Iterator[rich.table.Table | str]:
    """A table for each class; on a terminal of 80 columns only titles take a second line."""
    for kind in dict.fromkeys(device["class"] for device in devices):
        alike = [device for device in devices if device["class"] == kind]
        limited = [metric for metric in _COLUMNS if any(metric in device["limits"] for device in alike)]
        heads = [f">{name}\n{unit}" for name, unit, _ in (_COLUMNS[metric] for metric in limited)]
        rows = [
            (
                device["name"],
                device["title"],
                *(_amount(metric, device["limits"].get(metric)) for metric in limited),
                f"{device['latency_error']:.0%}",
            )
            for device in alike
        ]
        made = table([kind, "title", *heads, ">error"], rows)
        made.columns[0].no_wrap = True
        made.padding = (0, 1, 0, 0)
        yield made


def _amount(metric: str, limit: float | None) -> str:
    return "-" if limit is None else f"{limit / _COLUMNS[metric][2]:.3g}"


def profile_tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """One profile: what it is, its limits and why, every other figure; the sources below, by number."""
    from ..device_profiles import METRICS

    profile, alias = result["profile"], result["alias"]
    if alias:
        yield f"{alias['name']} stands for {profile['name']}: {alias['reason']}"
    yield f"{profile['title']} ({profile['name']}), {profile['class']}, {profile['core_type']}"
    yield profile["runtime"]
    limits = profile.get("limits", {})
    if limits:
        yield table(
            ["limit", ">at most", "reason"],
            [
                (name, METRICS[name].written(limit["value"]), limit["reason"])
                for name, limit in limits.items()
            ],
        )
    else:
        yield "no limits"
    sources: dict[str, int] = {}
    figures = [
        (key, _value(figure), figure["kind"], sources.setdefault(figure["source"], len(sources) + 1))
        for key, figure in _figures(profile)
    ]
    yield table(["figure", ">value", "kind", ">source"], figures)
    yield table([">", "source"], [(number, source) for source, number in sources.items()])


def _figures(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure of a profile, by its key in the file."""
    for key, value in section.items():
        if not isinstance(value, Mapping):
            continue
        if "unit" in value:
            yield prefix + key, value
        else:
            yield from _figures(value, f"{prefix}{key}.")


def _value(figure: Mapping[str, Any]) -> str:
    unit = "" if figure["unit"] == "1" else f" {figure['unit']}"
    spread = f" ({figure['low']:g} to {figure['high']:g})" if "low" in figure else ""
    return f"{figure['value']:g}{spread}{unit}"


def schema_text(result: Mapping[str, Any]) -> Iterator[str]:
    """The JSON Schema itself."""
    yield json.dumps(result["schema"], indent=2)


def findings_table(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """What is wrong with a profile, a line each."""
    if not result["findings"]:
        yield "no findings: the profile can be used"
        return
    rows = [(f["severity"], f["line"], f["code"], f["message"]) for f in result["findings"]]
    yield table(["severity", ">line", "code", "finding"], rows)
