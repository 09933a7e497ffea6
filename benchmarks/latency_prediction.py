"""How far predicted latencies are off, on this machine, for encoders that the calibration has not seen.

    python benchmarks/latency_prediction.py --size small    # about 35 minutes; leave the machine alone
    python benchmarks/latency_prediction.py --size full

``privynet calibrate`` is run once for one and two threads. Then a seeded sample of encoders of six backbones
(their cuts, three channel counts, two input sizes) is timed, one session of at least 3 s and 100 runs each,
and each session's median is held against the prediction. Some are timed again: that is the noise of
the measurement itself, which no model can get below. The networks on which the features of the model were
chosen are others (mnasnet, mobilenet_v3_large, resnet34, vgg11, densenet121, shufflenet, regnet), at other
input sizes.

Beside it, for the same sessions: **MACs alone**, a time per MAC and one per run fitted to the same
micro-models; and the **sum of ONNX Runtime's own profile** over the encoder's operators, which is no
prediction, for it runs the encoder.

Finished rows are kept in ``results/latency_prediction-SIZE.json`` and not run again, a calibration from an
earlier day among them: delete the file to measure anew.
"""

from __future__ import annotations

import argparse
import functools
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

BACKBONES = {
    "bundled": (32, 96),
    "timm:mobilenetv2_100,pad_type=same": (64, 192),
    "torchvision:mobilenet_v3_small": (64, 192),
    "torchvision:resnet18": (64, 192),
    "torchvision:squeezenet1_1": (64, 192),
    "timm:efficientnet_b0": (64, 192),
}
SHARES = (0.125, 0.5, 1.0)
PROTOCOL = Protocol(min_seconds=3.0)
THREADS = (1, 2)
SILENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Size:
    """How many encoders of each backbone and input size, and how many are timed again."""

    encoders: int
    again: int
    profiled_runs: int


SIZES = {"small": Size(10, 10, 20), "full": Size(40, 40, 100)}


def sample(size: Size) -> list[dict[str, Any]]:
    """Backbone, input size, cut and number of channels of each encoder."""
    generator = random.Random(0)
    found = []
    for backbone, input_sizes in BACKBONES.items():
        for input_size in input_sizes:
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
    weights = None if backbone == "bundled" else "random"
    return Splitter(load_backbone(parse_backbone(backbone, weights=weights)), input_size)


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
        if row["what"] == "calibration":
            return row
    found = calibrate(name="this-machine", threads=THREADS)
    row = {"what": "calibration", **found.document(), "macs_alone": {}}
    macs = {one.name: model_costs(one.model).macs for one in micro_models()}
    for threads, times in found.timed_ms.items():
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
    again = random.Random(1).sample(range(len(encoders)), size.again)
    with tempfile.TemporaryDirectory() as folder:
        for threads in THREADS:
            for number, encoder in enumerate(encoders):
                key = {"what": "encoder", "threads": threads, **encoder, "number": number}
                if measured.has(key):
                    continue
                path = exported(encoder, Path(folder))
                costs = graph_costs(path)
                predicted = profile.predict_latency_ms(costs, threads=threads)
                per_run, per_gmac = calibration["macs_alone"][str(threads)]
                ms, runs = session_median(path, threads)
                row = {
                    **key,
                    "measured_ms": ms,
                    "runs": runs,
                    "predicted_ms": predicted.ms,
                    "low_ms": predicted.low,
                    "high_ms": predicted.high,
                    "macs_ms": per_run + per_gmac * costs.macs / 1e9,
                    "profiled_ms": profiled_ms(path, threads, size.profiled_runs),
                }
                if number in again:
                    row["again_ms"] = session_median(path, threads)[0]
                measured.add(row)
                print(f"{threads} {path.stem}: {ms:.3f} ms, predicted {predicted.ms:.3f}", flush=True)


def errors(rows: list[dict[str, Any]], key: str) -> NDArray[np.float64]:
    """abs(predicted - measured) / measured"""
    return np.array([abs(row[key] / row["measured_ms"] - 1) for row in rows])


def report(measured: MeasuredRows) -> str:
    """The table."""
    head = ("threads", "model", "within 10 %", "25 %", "median", "90 %", "max", "n")
    lines = ["{:>7}  {:26} {:>11} {:>6} {:>7} {:>7} {:>6}  {}".format(*head)]
    models = {
        "predicted_ms": "calibrated, per kernel",
        "macs_ms": "MACs alone",
        "profiled_ms": "sum of the own profile",
        "again_ms": "the same session again",
    }
    for threads in THREADS:
        rows = [row for row in measured.rows if row.get("threads") == threads]
        for key, name in models.items():
            known = [row for row in rows if key in row]
            if not known:
                continue
            found = errors(known, key)
            lines.append(
                f"{threads:7}  {name:26} {np.mean(found <= 0.1):11.1%} {np.mean(found <= 0.25):6.1%} "
                f"{np.median(found):7.1%} {np.quantile(found, 0.9):7.1%} {found.max():6.0%}  {len(found)}"
            )
        inside = [row["low_ms"] <= row["measured_ms"] <= row["high_ms"] for row in rows]
        if inside:
            lines.append(f"{threads:7}  inside the stated 90 % interval: {np.mean(inside):.1%}")
        for backbone in BACKBONES:
            own = [row for row in rows if row["backbone"] == backbone]
            if own:
                ratios = np.array([row["predicted_ms"] / row["measured_ms"] for row in own])
                lines.append(
                    f"{'':9}{backbone:36} predicted / measured {np.median(ratios):.2f} "
                    f"({ratios.min():.2f}..{ratios.max():.2f})"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    setting = {**asdict(size), "backbones": {name: list(sizes) for name, sizes in BACKBONES.items()}}
    measured = MeasuredRows("latency_prediction", arguments.size, setting)
    measure(size, measured)
    print(report(measured))


if __name__ == "__main__":
    main()
