"""``privynet demo``: the whole flow on embedded data, offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen
from ..options import Accelerator, Debug, Force, Json, Seed, Where
from ..tables import findings_table, limits_table, score_text, search_tables
from .bench import tables as bench_tables

if TYPE_CHECKING:
    import rich.table


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run folder; without it, a new privynet-demo.")
    ] = None,
    accelerator: Where = Accelerator.auto,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """The whole flow on embedded data, offline.

    Search, export, verify, bench, encode, train-head, evaluate and report, on scikit-learn's digits with the
    bundled backbone.
    """
    screen = Screen(as_json=as_json, seed=seed)
    out = out or _unused()
    with screen.working(resume=f"privynet demo --out {out} goes on from here") as progress:
        from ..demo import DEMO, demo
        from ..flow import resolve_limits

        limits = resolve_limits(DEMO["limits"], DEMO["device"])
        screen.note([f"demo: {DEMO['data']} on {DEMO['device']}, in {out}", limits_table(limits)])
        result = demo(out=out, force=force, seed=seed, accelerator=accelerator.value, progress=progress)
    screen.show(result, _tables)
    if result["encoder"] is None:
        raise typer.Exit(3)


def _unused() -> Path:
    """The first free name in the current folder."""
    number, path = 1, Path("privynet-demo")
    while path.exists():
        number += 1
        path = Path(f"privynet-demo-{number}")
    return path


def _tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    yield from search_tables(result)
    if result["bench"]:
        yield from bench_tables(result["bench"])
    if result["evaluation"]:
        accuracy = score_text(result["evaluation"]["accuracy"])
        yield f"accuracy end to end on the test split, in ONNX Runtime only: {accuracy}"
        yield f"artifact: {result['artifact']}"
        yield from findings_table(result["verification"]["findings"])
    yield f"report: {result['report']}"
