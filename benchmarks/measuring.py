"""How far a measured latency can be trusted: against ONNX Runtime's plainest loop, and from time to time.

    python benchmarks/measuring.py --size small     # about 25 minutes
    python benchmarks/measuring.py --size full

Three float32 encoders, one thread: the bundled backbone's first blocks at 32 pixels, MobileNetV2's at 64, all
of ResNet-18 at 224 (the latter two with random weights).

*Plain loop*: our median relative to that of ``plain_loop.py``. Processes: a session of the agent and a
process of the plain loop, one after the other in an order that changes; the ratio of their medians, median
over the pairs, 95 % interval by a bootstrap over pairs. The machine's other work widens it. Loops: both loops
in turn in one process, in processor time, several processes, as ``--compare`` does it: what our way to time
adds.

*Stability*: the protocol's median (three sessions of 5 s) against the mean of a single loop of 20 runs after
10 that do not count, taken right after it; how far ten of each spread: (largest - smallest) / median, and
standard deviation / mean. Beside it the ratio that ``--compare`` finds, of an encoder and a copy of itself
and of two encoders: how far it spreads, and how often its 95 % interval holds the median of all.

Measures elapsed time: leave the machine alone. Finished rows are kept in ``results/measuring-SIZE.json`` and
not measured again; delete the file to do so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measured_rows import MeasuredRows
from numpy.typing import NDArray

from privynet.device_profiles import bench, compare
from privynet.device_profiles.measuring.comparison import estimate
from privynet.device_profiles.measuring.measurement import run_sessions
from privynet.device_profiles.measuring.sessions import AGENT, Protocol
from privynet.device_profiles.targets import open_target
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import write_onnx
from privynet.progress import SILENT

MODELS = {
    "bundled 32": ("bundled", 32, "blocks.2.2"),
    "mobilenetv2 64": ("timm:mobilenetv2_100,pad_type=same,weights=random", 64, "blocks.1.1"),
    "resnet18 224": ("timm:resnet18,weights=random", 224, "global_pool.pool"),
}
COMPARED = (("bundled 32", "bundled 32"), ("bundled 32", "mobilenetv2 64"), ("resnet18 224", "resnet18 224"))
PLAIN_LOOP = Path(__file__).with_name("plain_loop.py")
PLAIN_RUNS = 20


@dataclass(frozen=True)
class Size:
    """How much is measured: pairs of processes and their seconds, processes of both loops, repeats of the
    protocol and of the comparison, seconds of their sessions."""

    pairs: int
    pair_seconds: float
    loop_processes: int
    loop_seconds: float
    repeats: int
    comparisons: int
    session_seconds: float


SIZES = {
    "small": Size(20, 1.0, 6, 4.0, 10, 6, 5.0),
    "full": Size(60, 3.0, 12, 10.0, 30, 20, 5.0),
}


def write_models(folder: Path) -> dict[str, Path]:
    """The encoders as ONNX files."""
    files = {}
    for name, (backbone, input_size, cut) in MODELS.items():
        splitter = Splitter(load_backbone(parse_backbone(backbone)), input_size)
        files[name] = folder / f"{name.replace(' ', '-')}.onnx"
        write_onnx(make_encoder(splitter, cut=cut), files[name])
    return files


def plain(model: Path, *options: str) -> dict[str, Any]:
    """What a process of ``plain_loop.py`` prints."""
    command = [sys.executable, "-I", str(PLAIN_LOOP), str(model), *options]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    found: dict[str, Any] = json.loads(printed)
    return found


def process_pair(model: Path, number: int, size: Size) -> dict[str, Any]:
    """Medians of a session of ours and a plain loop, ms."""

    def ours() -> float:
        (session,) = run_sessions(
            model,
            target=open_target("local"),
            threads=1,
            sessions=1,
            affinity=None,
            protocol=Protocol(min_runs=1, min_seconds=size.pair_seconds),
            doing="timing",
            progress=SILENT,
        )
        return float(np.median(session.latencies_ms))

    def plainest() -> float:
        return float(plain(model, "--seconds", str(size.pair_seconds))["median_ms"])

    measures: list[tuple[str, Callable[[], float]]] = [("ours_ms", ours), ("plain_ms", plainest)]
    return {name: measure() for name, measure in (measures if number % 2 else reversed(measures))}


def loop_pairs(model: Path, size: Size) -> dict[str, Any]:
    """Medians of bursts of both loops in one process, ms."""
    return plain(model, "--agent", str(AGENT), "--seconds", str(size.loop_seconds))


def repeat(model: Path, size: Size) -> dict[str, Any]:
    """The protocol's median and, right after it, the mean of a few runs, ms."""
    measured = bench(model, min_seconds=size.session_seconds)
    return {
        "median_ms": measured["latency_ms"]["median"],
        "n": measured["latency_ms"]["n"],
        "valid": measured["valid"],
        "flags": [flag["code"] for flag in measured["flags"]],
        "mean_of_20_ms": plain(model, "--runs", str(PLAIN_RUNS))["mean_ms"],
    }


def comparison(model: Path, other: Path, number: int, size: Size) -> dict[str, Any]:
    """The ratio of two models."""
    if model == other:
        other = Path(shutil.copy(model, model.with_name(f"copy-{model.name}")))
    found = compare(model, other, min_seconds=size.session_seconds, seed=number)
    waited = [session["waited_share"] for session in found["sessions"]]
    return {"ratio": found["ratio"], "valid": found["valid"], "waited_share": max(waited)}


def rows_of(measured: MeasuredRows, **key: Any) -> list[dict[str, Any]]:
    return [row for row in measured.rows if key.items() <= row.items()]


def plain_loop_table(measured: MeasuredRows) -> list[str]:
    lines = [
        "our median / the plain loop's",
        f"{'encoder':15}  {'ours, ms':>9}  {'processes':26}  {'pairs':>5}  {'loops':26}  {'pairs':>6}",
    ]
    generator = np.random.default_rng(0)
    for name in MODELS:
        pairs = np.array(
            [(row["ours_ms"], row["plain_ms"]) for row in rows_of(measured, part="processes", model=name)]
        )
        ratios = pairs[:, 0] / pairs[:, 1]
        drawn = np.median(generator.choice(ratios, (2000, len(ratios))), axis=1)
        whole = between(float(np.median(ratios)), *np.quantile(drawn, [0.025, 0.975]))
        loops = estimate([np.array(row["pairs"]) for row in rows_of(measured, part="loops", model=name)])
        lines.append(
            f"{name:15}  {np.median(pairs[:, 0]):9.4f}  {whole:26}  {len(pairs):5}  "
            f"{between(loops.value, *loops.ci95):26}  {loops.n:6}"
        )
    return lines


def stability_table(measured: MeasuredRows) -> list[str]:
    lines = [
        f"spread of repeats: the protocol's median, and the mean of {PLAIN_RUNS} runs",
        f"{'encoder':15}  {'median, ms':>10}  {'range':>6}  {'CV':>6}  {'valid':>7}  "
        f"{f'mean of {PLAIN_RUNS}':>10}  {'range':>6}  {'CV':>6}",
    ]
    for name in MODELS:
        rows = rows_of(measured, part="stability", model=name)
        ours, means = (np.array([row[key] for row in rows]) for key in ("median_ms", "mean_of_20_ms"))
        valid = f"{sum(row['valid'] for row in rows)} of {len(rows)}"
        lines.append(
            f"{name:15}  {np.median(ours):10.4f}  {spread(ours)}  {valid:>7}  "
            f"{np.median(means):10.4f}  {spread(means)}"
        )
    return lines


def comparison_table(measured: MeasuredRows) -> list[str]:
    lines = [
        "ratios that --compare finds",
        f"{'encoders':31}  {'ratio':>7}  {'range':>6}  {'CV':>6}  {'half width':>10}  {'covered':>8}  waited",
    ]
    for name, other in COMPARED:
        rows = rows_of(measured, part="comparison", model=name, other=other)
        ratios = np.array([row["ratio"]["value"] for row in rows])
        # Of an encoder and its copy it is known.
        truth = 1.0 if name == other else float(np.median(ratios))
        intervals = [row["ratio"]["ci95"] for row in rows]
        covered = sum(low <= truth <= high for low, high in intervals)
        width = float(np.median([(high - low) / 2 for low, high in intervals])) / truth
        pair = f"{name} / {'itself' if name == other else other}"
        waited = max(row["waited_share"] for row in rows)
        lines.append(
            f"{pair:31}  {np.median(ratios):7.4f}  {spread(ratios)}  {width:10.2%}  "
            f"{f'{covered} of {len(rows)}':>8}  {waited:.0%}"
        )
    return lines


def spread(values: NDArray[np.float64]) -> str:
    """Relative range and coefficient of variation."""
    deviation = np.std(values, ddof=1) / np.mean(values) if len(values) > 1 else 0.0
    return f"{np.ptp(values) / np.median(values):6.1%}  {deviation:6.1%}"


def between(value: float, low: float, high: float) -> str:
    return f"{value:.4f} ({low:.4f}..{high:.4f})"


def todo(size: Size) -> list[dict[str, Any]]:
    """The keys of all rows, repeats of one model far apart."""
    found: list[dict[str, Any]] = []
    found += [{"part": "processes", "number": n, "model": m} for n in range(size.pairs) for m in MODELS]
    found += [{"part": "loops", "number": n, "model": m} for n in range(size.loop_processes) for m in MODELS]
    found += [{"part": "stability", "number": n, "model": m} for n in range(size.repeats) for m in MODELS]
    found += [
        {"part": "comparison", "number": n, "model": name, "other": other}
        for n in range(size.comparisons)
        for name, other in COMPARED
    ]
    return found


def row(key: dict[str, Any], files: dict[str, Path], size: Size) -> dict[str, Any]:
    """Measure one."""
    model, number = files[key["model"]], key["number"]
    if key["part"] == "processes":
        return process_pair(model, number, size)
    if key["part"] == "loops":
        return loop_pairs(model, size)
    if key["part"] == "stability":
        return repeat(model, size)
    return comparison(model, files[key["other"]], number, size)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    size_name = parser.parse_args(arguments).size
    size = SIZES[size_name]
    setting = {"models": MODELS, "compared": COMPARED, "size": asdict(size), "protocol": asdict(Protocol())}
    measured = MeasuredRows("measuring", size_name, json.loads(json.dumps(setting)))
    missing = [key for key in todo(size) if not measured.has(key)]
    with tempfile.TemporaryDirectory() as folder:
        files = write_models(Path(folder)) if missing else {}
        for number, key in enumerate(missing, 1):
            print(f"{number} of {len(missing)}: {key}", file=sys.stderr, flush=True)
            load, started = os.getloadavg()[0], time.monotonic()
            found = row(key, files, size)
            seconds = round(time.monotonic() - started, 1)
            measured.add({**key, **found, "load_average": load, "seconds": seconds})
    print(json.dumps(measured.setting))
    for table in (plain_loop_table, stability_table, comparison_table):
        print(*table(measured), "", sep="\n")


if __name__ == "__main__":
    main()
