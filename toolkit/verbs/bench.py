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
    on: Annotated[
        str,
        typer.Option(
            metavar="TARGET", help="Where to measure: local, ssh://USER@HOST[:PORT] or adb://SERIAL."
        ),
    ] = "local",
    threads: Threads = 1,
    sessions: Annotated[int, typer.Option(min=1, metavar="N", help="Processes to measure in.")] = 3,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Also predict the latency on this target (needs ARTIFACT)."),
    ] = None,
    accept_new_host_key: Annotated[
        bool, typer.Option("--accept-new-host-key", help="Learn the key of an SSH host that is not known.")
    ] = False,
    python: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The Python on the target (default: the first that is found)."),
    ] = None,
    perf_test: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An onnxruntime_perf_test built for a target without Python, to use instead."
        ),
    ] = None,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Measure latency and memory, here or on a board or phone.

    Exit code 3 when the measurement is not valid: throttled, unstable, or others used the machine.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ..flow import bench_subject

        result = bench_subject(
            subject,
            on=on,
            threads=threads,
            sessions=sessions,
            device=device,
            python=python,
            perf_test=perf_test,
            accept_new_host_key=accept_new_host_key,
            progress=progress,
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
    name = machine["processor"] or "an unknown processor"
    where = "" if result["on"] == "local" else f" ({result['on']})"
    yield f"measured on {name}{where}, threads: {machine['threads']}, batch 1:"
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
