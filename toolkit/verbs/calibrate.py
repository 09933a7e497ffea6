"""``privynet calibrate``: a target's latency model, measured there, as a device profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ..console import Screen, table
from ..options import AcceptNewHostKey, Debug, Json, On, TargetPython
from ..result_file import check_page, check_profile_file

if TYPE_CHECKING:
    import rich.table


def calibrate(
    name: Annotated[str, typer.Option(metavar="NAME", help="What the profile shall be called.")],
    out: Annotated[Path, typer.Option(metavar="FILE.toml", help="The profile to write.")],
    on: On = "local",
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Thread counts to time (default: 1, and --like's or up to four cores)."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Take class, threads and limits from this profile."),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Time the networks quantised to int8 too; takes twice as long. bench predicts encoders that"
            " were exported in int8 from them.",
        ),
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="S",
            help="What timing in a precision may take on the target (default: just under two minutes).",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also draw predicted against measured times."),
    ] = None,
    accept_new_host_key: AcceptNewHostKey = False,
    python: TargetPython = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace a device profile at --out, a page of privynet's at --report."),
    ] = False,
    as_json: Json = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**31 - 1, metavar="N", help="Changes nothing: it is always the same networks."
        ),
    ] = 0,
    debug: Debug = False,
) -> None:
    """Measure a target and write its profile.

    A pack of small networks is timed there in under two minutes; a latency model is fitted to the times, and
    its error stated for networks that were left out. Exit code 3 when the target was busy meanwhile.
    """
    screen = Screen(as_json=as_json)
    check_profile_file(out, force=force)
    if report is not None:
        check_page(report, force=force)
        if report.resolve() == out.resolve():
            raise InputError(f"--out and --report are both {out}", hint="choose another --report")
    with screen.working() as progress:
        from ...device_profiles.calibration import calibrate
        from ...device_profiles.profiles import write_profile
        from ..latency_page import write_calibration_page

        given: dict[str, Any] = {"seconds": seconds} if seconds is not None else {}
        found = calibrate(
            name=name,
            on=on,
            threads=sorted(set(threads or ())),
            like=like,
            int8=int8,
            python=python,
            accept_new_host_key=accept_new_host_key,
            progress=progress,
            **given,
        )
        write_profile(found.profile, out, force=force)
        if report is not None:
            write_calibration_page(found, report)
    pages = {"report": str(report)} if report is not None else {}
    result = {**found.document(), "file": str(out), **pages}
    screen.show(result, tables)
    if not result["valid"]:
        raise typer.Exit(3)


def tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """How far predictions are off, and where the profile is."""
    rows = [
        (
            precision,
            threads,
            f"{error['median']:.1%}",
            f"{error['p90']:.1%}",
            f"{error['max']:.1%}",
            f"{error['within_10_percent']:.0%}",
            f"{error['n']}",
            "-" if error["rounds_agree"] is None else f"{error['rounds_agree']:.0%}",
        )
        for precision, errors in result["error"].items()
        for threads, error in errors.items()
    ]
    yield "predicted against measured, models that the fit had not seen:"
    yield table(
        [
            "precision",
            ">threads",
            ">median error",
            ">90 %",
            ">largest",
            ">within 10 %",
            ">models",
            ">same twice",
        ],
        rows,
    )
    yield "same twice: models that took the same in both rounds, within 10 %"
    for flag in result["flags"]:
        yield f"invalid: {flag['message']}"
    if not result["valid"]:
        yield "INVALID: this profile is not to be relied on; let the target rest and calibrate again"
    if not result["profile"].get("limits"):
        yield "note: the profile has no limits; write them into the file, or name a profile with --like"
    if "report" in result:
        yield f"plot: {result['report']}"
    yield f"profile {result['file']}: privynet devices show {result['file']}"
