"""``privynet calibrate``: a target's latency model, measured there, as a device profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import AcceptNewHostKey, Debug, Force, Json, On, Seed, TargetPython

if TYPE_CHECKING:
    import rich.table


def calibrate(
    name: Annotated[str, typer.Option(metavar="NAME", help="What the profile shall be called.")],
    out: Annotated[Path, typer.Option(metavar="FILE.toml", help="The profile to write.")],
    on: On = "local",
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="Thread counts to time (default: 1, and up to four cores)."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Take class, threads and limits from this profile."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, metavar="S", help="What timing may take on the target, in all.")
    ] = 110.0,
    accept_new_host_key: AcceptNewHostKey = False,
    python: TargetPython = None,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Measure a target and write its profile.

    A pack of small networks is timed there in under two minutes; a latency model is fitted to the times, and
    its error stated for networks that were left out.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...device_profiles.calibration import calibrate
        from ...device_profiles.profiles import check_can_write, write_profile

        check_can_write(out, force=force)
        found = calibrate(
            name=name,
            on=on,
            threads=sorted(set(threads or ())),
            like=like,
            seconds=seconds,
            python=python,
            accept_new_host_key=accept_new_host_key,
            progress=progress,
        )
        write_profile(found.profile, out, force=force)
    screen.show({**found.document(), "file": str(out)}, tables)


def tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """How far predictions are off, and where the profile is."""
    rows = [
        (
            threads,
            f"{error['median']:.1%}",
            f"{error['p90']:.1%}",
            f"{error['max']:.1%}",
            f"{error['within_10_percent']:.0%}",
            f"{error['n']}",
        )
        for threads, error in result["error"].items()
    ]
    yield "predicted against measured, models that the fit had not seen:"
    yield table([">threads", ">median error", ">90 %", ">largest", ">within 10 %", ">models"], rows)
    if not result["profile"].get("limits"):
        yield "note: the profile has no limits; write them into the file, or name a profile with --like"
    yield f"profile {result['file']}: privynet devices show {result['file']}"
