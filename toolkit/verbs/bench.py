"""``privynet bench``: measured latency and memory of an encoder, beside the prediction and the limit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ..console import Screen, table
from ..options import AcceptNewHostKey, Debug, Force, Json, On, TargetPython, Threads
from ..result_file import check_result_file, write_result

if TYPE_CHECKING:
    import rich.table

OF_THE_MACHINE = {"background-load", "throttling", "unstable-sessions"}
"""Flags that another attempt on the same machine may not have."""


def bench(
    subject: Annotated[Path, typer.Argument(metavar="ARTIFACT|FILE.onnx", help="What to time.")],
    on: On = "local",
    threads: Threads = 1,
    sessions: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Processes to measure in.")] = 3,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Also predict the latency on this target (needs ARTIFACT)."),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="OTHER", help="Time this one in turn with it, and give the ratio instead."),
    ] = None,
    affinity: Annotated[
        str | None,
        typer.Option(
            metavar="CPUS", help="Measure on these CPUs only, as 4-7 or 0,2: the cores of one kind."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Also keep the result here.")] = None,
    force: Force = False,
    accept_new_host_key: AcceptNewHostKey = False,
    python: TargetPython = None,
    perf_test: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An onnxruntime_perf_test built for a target without Python, to use instead."
        ),
    ] = None,
    as_json: Json = False,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**31 - 1,
            metavar="N",
            help="Seed of a comparison's order; without --compare all inputs are those of seed 0.",
        ),
    ] = 0,
    debug: Debug = False,
) -> None:
    """Measure latency and memory, here or on a board or phone.

    Exit code 3 when the measurement is not valid: throttled, unstable, or others used the machine; of a
    comparison, when its interval is too wide to tell.
    """
    seed = 0 if compare is None else seed
    screen = Screen(as_json=as_json, seed=seed)
    kind = "bench" if compare is None else "comparison"
    if out is not None:
        check_result_file(out, kind, force=force)
    with screen.working() as progress:
        from ...device_profiles import parse_cpus
        from ..benching import bench_subject
        from ..comparing import compare_subjects

        where: dict[str, Any] = {
            "on": on,
            "threads": threads,
            "sessions": sessions,
            "affinity": parse_cpus(affinity) if affinity is not None else None,
            "python": python,
            "accept_new_host_key": accept_new_host_key,
            "progress": progress,
        }
        if compare is None:
            result = bench_subject(subject, device=device, perf_test=perf_test, **where)
        elif device is not None:
            raise InputError("--compare predicts nothing", hint="leave out --device")
        elif perf_test is not None:
            raise InputError("--compare needs a Python on the target", hint="leave out --perf-test")
        else:
            result = compare_subjects(subject, compare, seed=seed, **where)
    if out is not None:
        write_result(out, kind, result, seed=seed)
    screen.show(result, tables if compare is None else comparison_tables)
    if not result["valid"]:
        raise typer.Exit(3)


def tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """Measured figures, predicted ones, and what speaks against them."""
    latency, peak = result["latency_ms"], result["peak_rss_kb"]
    rows = [
        ("latency, median", _ms(latency["median"])),
        ("latency, min", _ms(latency["min"])),
        ("latency, p90", _ms(latency["p90"])),
        ("latency, IQR", _ms(latency["iqr"])),
        ("runs", f"{latency['n']:,}"),
        ("first run", _ms(result["first_ms"])),
        ("load", _ms(result["load_ms"])),
        ("peak memory of the process", "unknown" if peak is None else f"{peak / 1024:.1f} MiB"),
    ]
    yield f"measured on {_where(result)}:"
    yield table(["figure", ">value"], rows)
    if result["predicted_ms"]:
        yield from _prediction(result)
    yield from _remarks(result)


def comparison_tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """Both models' figures, the ratio, and what speaks against it."""
    ratio, other = result["ratio"], result["other"]
    rows = [
        (figure, *(_ms(model["latency_ms"][key]) for model in (result, other)))
        for figure, key in (("latency, median", "median"), ("latency, min", "min"), ("latency, IQR", "iqr"))
    ]
    clock = ", in processor time" if result["protocol"]["clock"] == "processor" else ""
    yield f"compared on {_where(result)}{clock}:"
    yield table(["figure", ">value", ">other"], rows)
    low, high = ratio["ci95"]
    yield f"ratio {ratio['value']:.4f} ({low:.4f}..{high:.4f}), {ratio['n']:,} pairs of bursts"
    yield result["verdict"]
    yield from _remarks(result)


def _prediction(result: Mapping[str, Any]) -> Iterator[str]:
    """What was predicted, for how many threads, and the limit, which may be for others."""
    predicted, limit = result["predicted_ms"], result["limit_ms"]
    threads, measured, limited = predicted["threads"], result["machine"]["threads"], result["limit_threads"]
    how = "predicted (estimated)" if predicted["estimated"] else "predicted"
    told = "" if limit is None else f"; limit {limit:g} ms"
    if limit is not None and limited != threads:
        told += f" with {_threads(limited)}"
    yield (
        f"{how} on {predicted['device']} with {_threads(threads)}: {predicted['value']:.3g} ms, "
        f"{predicted['low']:.3g} to {predicted['high']:.3g} ms{told}"
    )
    if result.get("precision") == "int8" and predicted["precision"] != "int8":
        yield "note: the profile has no int8 figures, so the prediction is for float32"
    if threads != measured:
        yield f"note: the profile has no figures for {_threads(measured)}, which were measured"


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _where(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    batch = next((flag["message"] for flag in result["flags"] if flag["code"] == "batch"), None)
    where = "this machine" if result["on"] == "local" else result["on"]
    return (
        f"{machine['processor'] or where}, threads: {machine['threads']}, {'a batch' if batch else 'batch 1'}"
    )


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    """What speaks against the figures; the last line says so if they must not be used."""
    for flag in result["flags"]:
        yield f"{'invalid' if flag['disqualifying'] else 'note'}: {flag['message']}"
    if not result["valid"]:
        yield "INVALID: these figures are no measurement to rely on"
        if "ratio" not in result and any(flag["code"] in OF_THE_MACHINE for flag in result["flags"]):
            yield (
                "For a valid one leave the machine alone: stop what else works on it, wait until it is cool, "
                "measure again. Which of two encoders is faster, --compare tells on a busy machine, too."
            )


def _ms(value: float | None) -> str:
    """At least three digits of a latency; ``-`` where there are too few runs for it."""
    return "-" if value is None else f"{value:.{2 if value >= 1 else 4}f} ms"
