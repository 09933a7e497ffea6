"""``privynet bench``: measured latency and memory of an encoder, beside the prediction and the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import Debug, Json, Seed, Threads

if TYPE_CHECKING:
    import rich.table


def bench(
    subject: Annotated[Path, typer.Argument(metavar="ARTIFACT|FILE.onnx", help="What to time.")],
    on: Annotated[str, typer.Option(metavar="TARGET", help="Where to measure: local.")] = "local",
    threads: Threads = 1,
    sessions: Annotated[int, typer.Option(min=1, metavar="N", help="Processes to measure in.")] = 3,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Also predict the latency on this target (needs ARTIFACT)."),
    ] = None,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Measure latency and memory.

    Exit code 3 when the measurement is not valid: throttled, unstable, or others used the machine.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ..flow import bench_subject

        result = bench_subject(
            subject, on=on, threads=threads, sessions=sessions, device=device, progress=progress
        )
    screen.show(result, tables)
    if not result["valid"]:
        raise typer.Exit(3)


def tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """Measured figures, predicted ones, and what speaks against them."""
    latency, machine = result["latency_ms"], result["machine"]
    peak = result["peak_rss_kb"]
    rows = [
        ("latency, median", f"{latency['median']:.2f} ms"),
        ("latency, min", f"{latency['min']:.2f} ms"),
        ("latency, p90", f"{latency['p90']:.2f} ms"),
        ("latency, IQR", f"{latency['iqr']:.2f} ms"),
        ("runs", f"{latency['n']:,}"),
        ("load", f"{result['load_ms']:.1f} ms"),
        ("peak memory of the process", "unknown" if peak is None else f"{peak / 1024:.1f} MiB"),
    ]
    name = machine["processor"] or "this machine"
    yield f"measured on {name}, threads: {machine['threads']}, batch 1:"
    yield table(["figure", ">value"], rows)
    predicted = result["predicted_ms"]
    if predicted:
        limit = result.get("limit_ms")
        yield (
            f"predicted (estimated) on {predicted['device']}: {predicted['value']:.2f} ms, "
            f"{predicted['low']:.2f} to {predicted['high']:.2f} ms"
            + (f"; limit {limit:g} ms" if limit is not None else "")
        )
    for flag in result["flags"]:
        yield f"{'invalid' if flag['disqualifying'] else 'note'}: {flag['message']}"
