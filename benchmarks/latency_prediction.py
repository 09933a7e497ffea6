"""How far predicted latencies are off, on this machine, for encoders that the calibration has not seen.

    python benchmarks/latency_prediction.py --size small    # about 45 minutes; leave the machine alone
    python benchmarks/latency_prediction.py --size full
    python benchmarks/latency_prediction.py --page plots.html    # draws what was measured

``privynet calibrate`` is run once for one and two threads. Then a seeded sample of encoders of six backbones
(their cuts, three channel counts, two input sizes) is timed, one session of at least 3 s and 100 runs each,
and each session's median is held against the prediction. No network here had a part in choosing the model's
features: those were bundled, mobilenetv2, mobilenet_v3, resnet18 and 34, squeezenet, efficientnet, mnasnet,
vgg11, densenet121, shufflenet and regnet.

All sessions are run again in a **second turn**, a quarter of an hour later: how far a session is from itself
is the noise of the measurement, which no model gets below. On a shared machine another's work slows a core
for seconds or minutes; the lower of the two medians is the **calm** time, which is seldom slowed twice, and
predictions are held against it too. That tells the model's error from the machine's.

Beside it, for the first turn's sessions: **MACs alone**, a time per MAC and one per run fitted to the same
micro-models; and the **sum of ONNX Runtime's own profile** over the encoder's operators, which is no
prediction, for it runs the encoder.

Finished rows are kept in ``results/latency_prediction-SIZE.json`` and not run again, a calibration from an
earlier day among them: delete the file to measure anew.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from measured_rows import MeasuredRows
from numpy.typing import NDArray

from privynet.device_profiles import DeviceProfile, graph_costs
from privynet.device_profiles.calibration import calibrate, micro_models
from privynet.device_profiles.costs import model_costs
from privynet.device_profiles.latency.fitting import solve
from privynet.device_profiles.measuring import Protocol, run_session
from privynet.device_profiles.measuring.sessions import agent_command
from privynet.device_profiles.targets import open_target
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import write_onnx
from privynet.toolkit.latency_page import TimedNetworks, write_latency_page

BACKBONES = (
    "timm:mobilenetv1_100",
    "timm:fbnetc_100",
    "timm:semnasnet_075",
    "timm:lcnet_050",
    "timm:resnet26",
    "torchvision:googlenet",
)
INPUT_SIZES = (64, 192)
SHARES = (0.125, 0.5, 1.0)
PROTOCOL = Protocol(min_seconds=3.0)
THREADS = (1, 2)
TURNS = (1, 2)
SILENCE_SECONDS = 120.0
PREDICTIONS = {
    "predicted_ms": "calibrated",
    "macs_ms": "MACs alone",
    "profiled_ms": "sum of the own profile",
}


@dataclass(frozen=True)
class Size:
    """How many encoders of each backbone and input size, and how many runs the profile takes."""

    encoders: int
    profiled_runs: int


SIZES = {"small": Size(10, 20), "full": Size(40, 100)}


def sample(size: Size) -> list[dict[str, Any]]:
    """Backbone, input size, cut and number of channels of each encoder."""
    generator = random.Random(0)
    found = []
    for backbone in BACKBONES:
        for input_size in INPUT_SIZES:
            cuts = splitter(backbone, input_size).cuts
            for _ in range(size.encoders):
                cut = generator.choice(cuts)
                count = max(1, int(cut.channels * generator.choice(SHARES)))
                found.append(
                    {"backbone": backbone, "input_size": input_size, "cut": cut.name, "channels": count}
                )
    return found


@functools.cache
def splitter(backbone: str, input_size: int) -> Splitter:
    """With random weights: a time does not depend on them."""
    return Splitter(load_backbone(parse_backbone(backbone, weights="random")), input_size)


def exported(encoder: dict[str, Any], folder: Path) -> Path:
    """The encoder's file."""
    parts = [str(value).replace(":", "-").replace(",", "-") for value in encoder.values()]
    path = folder / f"{'_'.join(parts)}.onnx"
    if not path.exists():
        made = make_encoder(
            splitter(encoder["backbone"], encoder["input_size"]),
            cut=encoder["cut"],
            channels=range(encoder["channels"]),
        )
        write_onnx(made, path)
    return path


def calibrated(measured: MeasuredRows) -> dict[str, Any]:
    """The calibration's row: the profile, its errors and the times of MACs alone."""
    for row in measured.rows:
        if "macs_alone" in row:
            return row
    found = calibrate(name="this-machine", threads=THREADS)
    row = {**found.document(), "macs_alone": {}}
    macs = {one.name: model_costs(one.model).macs for one in micro_models()}
    for threads, times in found.timed_ms["float32"].items():
        work = np.array([[1.0, macs[name] / 1e9] for name in times])
        row["macs_alone"][str(threads)] = list(solve(work, np.array([*times.values()])))
    measured.add(row)
    return row


def session_median(path: Path, threads: int) -> tuple[float, int]:
    """The median of one session in milliseconds, and its number of runs."""
    with open_target("local") as target:
        result = run_session(
            agent_command(target, path, threads=threads, protocol=PROTOCOL),
            target=target,
            silence_seconds=SILENCE_SECONDS,
            on_running=lambda runs, seconds: None,
        )
    return float(np.median(result.latencies_ms)), len(result.latencies_ms)


def profiled_ms(path: Path, threads: int, runs: int) -> float:
    """The sum over operators of the median time that ONNX Runtime's profile gives."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        shape = session.get_inputs()[0].shape
        pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        for _ in range(runs):
            session.run(None, {session.get_inputs()[0].name: pixels})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault(event["name"], []).append(event["dur"] / 1e3)
    return float(sum(np.median(values) for values in times.values()))


def measure(size: Size, measured: MeasuredRows) -> None:
    """All rows."""
    calibration = calibrated(measured)
    profile = DeviceProfile.model_validate(calibration["profile"])
    encoders = sample(size)
    # By chance, so that no phase of the machine meets one backbone alone.
    order = random.Random(1).sample(range(len(encoders)), len(encoders))
    with tempfile.TemporaryDirectory() as folder:
        for turn, threads, number in itertools.product(TURNS, THREADS, order):
            key = {"turn": turn, "threads": threads, "number": number, **encoders[number]}
            if measured.has(key):
                continue
            path = exported(encoders[number], Path(folder))
            ms, runs = session_median(path, threads)
            row = {**key, "measured_ms": ms, "runs": runs}
            if turn == 1:
                costs = graph_costs(path)
                predicted = profile.predict_latency_ms(costs, threads=threads)
                per_run, per_gmac = calibration["macs_alone"][str(threads)]
                row |= {
                    "predicted_ms": predicted.ms,
                    "low_ms": predicted.low,
                    "high_ms": predicted.high,
                    "macs_ms": per_run + per_gmac * costs.macs / 1e9,
                    "profiled_ms": profiled_ms(path, threads, size.profiled_runs),
                }
            measured.add(row)
            print(f"turn {turn}, {threads} threads, {path.stem}: {ms:.4g} ms", flush=True)


@dataclass(frozen=True)
class Comparison:
    """What was told of encoders and what it is held against, in milliseconds, each (n,)."""

    told: NDArray[np.float64]
    held: NDArray[np.float64]

    @property
    def errors(self) -> NDArray[np.float64]:
        """abs(told - held) / held"""
        found: NDArray[np.float64] = np.abs(self.told / self.held - 1)
        return found

    def line(self) -> str:
        """Shares within 10 and 25 %, quantiles, n."""
        found = self.errors
        return (
            f"{np.mean(found <= 0.1):11.1%} {np.mean(found <= 0.25):6.1%} {np.median(found):7.1%} "
            f"{np.quantile(found, 0.9):7.1%} {found.max():6.0%}  {len(found)}"
        )


def report(measured: MeasuredRows) -> str:
    """The table."""
    head = ("threads", "told, held against", "within 10 %", "25 %", "median", "90 %", "max", "n")
    lines = ["{:>7}  {:44} {:>11} {:>6} {:>7} {:>7} {:>6}  {}".format(*head)]
    for threads in THREADS:
        turns = [
            {
                row["number"]: row
                for row in measured.rows
                if row.get("turn") == turn and row["threads"] == threads
            }
            for turn in TURNS
        ]
        numbers = [number for number in turns[0] if number in turns[1]]
        if not numbers:
            continue
        rows = [turns[0][number] for number in numbers]
        columns = {key: np.array([row[key] for row in rows]) for key in PREDICTIONS}
        first, second = (np.array([turn[number]["measured_ms"] for number in numbers]) for turn in turns)
        calm = np.minimum(first, second)
        for key, name in PREDICTIONS.items():
            lines.append(f"{threads:7}  {name + ', session':44} {Comparison(columns[key], first).line()}")
        predicted = columns["predicted_ms"]
        lines += [
            f"{threads:7}  {'calibrated, calm time':44} {Comparison(predicted, calm).line()}",
            f"{threads:7}  {'the session itself, second turn':44} {Comparison(first, second).line()}",
        ]
        inside = [row["low_ms"] <= row["measured_ms"] <= row["high_ms"] for row in rows]
        lines.append(f"{threads:7}  sessions inside the stated 90 % interval: {np.mean(inside):.1%}")
        for backbone in BACKBONES:
            ratios = (predicted / calm)[[row["backbone"] == backbone for row in rows]]
            if len(ratios):
                lines.append(
                    f"{'':9}{backbone:24} predicted / calm {np.median(ratios):.2f} "
                    f"({ratios.min():.2f}..{ratios.max():.2f}), "
                    f"{np.mean(np.abs(ratios - 1) <= 0.1):.0%} within 10 %"
                )
    return "\n".join(lines)


def draw(measured: MeasuredRows, path: Path) -> None:
    """Predicted against calm time, and each session's median against its second turn's."""
    medians: dict[tuple[int, int], dict[str, float]] = {}
    predicted: dict[tuple[int, str], float] = {}
    for row in measured.rows:
        if "turn" in row:
            name = (
                f"{row['number']}: {row['backbone']} at {row['input_size']}, {row['cut']}, {row['channels']}"
            )
            medians.setdefault((row["threads"], row["turn"]), {})[name] = row["measured_ms"]
            if row["turn"] == 1:
                predicted[row["threads"], name] = row["predicted_ms"]
    panels = []
    for threads in THREADS:
        first, second = medians[threads, 1], medians[threads, 2]
        both = [name for name in first if name in second]
        panels += [
            TimedNetworks(
                f"Predicted, {threads} threads",
                {name: (predicted[threads, name], min(first[name], second[name])) for name in both},
            ),
            TimedNetworks(
                f"The same session twice, {threads} threads",
                {name: (first[name], second[name]) for name in both},
            ),
        ]
    write_latency_page(
        path,
        title="Latency of encoders that the calibration had not seen",
        told="Each mark is an encoder: predicted against the lower of two sessions' medians, and one"
        " session's median against the other's, which is as close as a prediction can come.",
        panels=panels,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--page", type=Path, help="a page to write with plots")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    setting = {**asdict(size), "backbones": list(BACKBONES), "input_sizes": list(INPUT_SIZES)}
    measured = MeasuredRows("latency_prediction", arguments.size, setting)
    measure(size, measured)
    print(report(measured))
    if arguments.page:
        draw(measured, arguments.page)


if __name__ == "__main__":
    main()
