"""How far predicted latencies are off, on this machine, for encoders that the calibration has not seen.

    python benchmarks/latency_prediction.py --size small    # about 50 minutes; leave the machine alone
    python benchmarks/latency_prediction.py --size full
    python benchmarks/latency_prediction.py --page plots.html    # and draws it

``privynet calibrate`` is run three times for one and two threads: it is not twice the same. Then a seeded
sample of encoders of six backbones (their cuts, three channel counts, two input sizes) is timed, one session
of at least 3 s and 100 runs each, and each session's median is held against the prediction. No network here
had a part in choosing the model's features: those were bundled, mobilenetv2, mobilenet_v3, resnet18 and 34,
squeezenet, efficientnet, mnasnet, vgg11, densenet121, shufflenet and regnet.

All sessions are run again in a **second turn**, a quarter of an hour later: how far a session is from itself
is the noise of the measurement, which no model gets below. On a shared machine another's work slows a core
for seconds or minutes; the lower of the two medians is the **calm** time, which is seldom slowed twice, and
predictions are held against it too. That tells the model's error from the machine's.

Beside it, for the first turn's sessions: **MACs alone**, a time per MAC and one per run fitted to the same
micro-models; and the **sum of ONNX Runtime's own profile** over the encoder's operators, which is no
prediction, for it runs the encoder.

Finished rows, times and no predictions, are kept in ``results/latency_prediction-SIZE.json`` and not run
again: delete the file to measure anew. Predictions are made from them at the end.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import random
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from latency_prediction_report import draw, held_against, table
from measured_rows import MeasuredRows

from privynet.device_profiles.calibration import calibrate, micro_models
from privynet.device_profiles.measuring import Protocol, run_session
from privynet.device_profiles.measuring.sessions import agent_command
from privynet.device_profiles.targets import open_target
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import write_onnx

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
PACKS = 3


@dataclass(frozen=True)
class Size:
    """How many encoders of each backbone and input size, and how many runs the profile takes."""

    encoders: int
    profiled_runs: int


SIZES = {"small": Size(10, 20), "full": Size(40, 100)}


def sample(size: Size) -> list[dict[str, Any]]:
    """Backbone, input size, cut and number of channels of encoders that differ.

    So many are drawn for each backbone and input size; what comes twice is made up for by others.
    """
    generator = random.Random(0)
    places = list(itertools.product(BACKBONES, INPUT_SIZES))
    drawn = [_draw(generator, *place) for place in places for _ in range(size.encoders)]
    found = {tuple(encoder.values()): encoder for encoder in drawn}
    while len(found) < len(drawn):
        encoder = _draw(generator, *generator.choice(places))
        found.setdefault(tuple(encoder.values()), encoder)
    return list(found.values())


def _draw(generator: random.Random, backbone: str, input_size: int) -> dict[str, Any]:
    cut = generator.choice(splitter(backbone, input_size).cuts)
    count = max(1, int(cut.channels * generator.choice(SHARES)))
    return {"backbone": backbone, "input_size": input_size, "cut": cut.name, "channels": count}


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


def micro_models_digest() -> str:
    """So that kept times stay with the networks that they are of."""
    found = hashlib.sha256()
    for one in micro_models():
        found.update(one.name.encode())
        found.update(one.model.SerializeToString(deterministic=True))
    return found.hexdigest()


def session_median(path: Path, threads: int) -> tuple[float, int]:
    """The median of one session in milliseconds, and its number of runs."""
    with open_target("local") as target:
        result = run_session(
            agent_command(target, path, threads=threads, protocol=PROTOCOL),
            target=target,
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
    for number in range(PACKS):
        if measured.has({"what": "pack", "number": number}):
            continue
        fitted = calibrate(name="this-machine", threads=THREADS).fitted["float32"]
        times = {str(threads): dict(one.times_ms) for threads, one in fitted.items()}
        measured.add({"what": "pack", "number": number, "timed_ms": times})
    encoders = sample(size)
    random.Random(1).shuffle(encoders)  # so that no phase of the machine meets one backbone alone
    with tempfile.TemporaryDirectory() as folder:
        for turn, threads, encoder in itertools.product(TURNS, THREADS, encoders):
            key = {"what": "session", "turn": turn, "threads": threads, **encoder}
            if measured.has(key):
                continue
            path = exported(encoder, Path(folder))
            ms, runs = session_median(path, threads)
            profiled = {"profiled_ms": profiled_ms(path, threads, size.profiled_runs)} if turn == 1 else {}
            measured.add({**key, "measured_ms": ms, "runs": runs, **profiled})
            print(f"turn {turn}, {threads} threads, {path.stem}: {ms:.4g} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--page", type=Path, help="a page to write with plots")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    setting = {
        **asdict(size),
        "backbones": list(BACKBONES),
        "input_sizes": list(INPUT_SIZES),
        "shares": list(SHARES),
        "protocol": asdict(PROTOCOL),
        "micro_models": micro_models_digest(),
        "onnxruntime": onnxruntime.__version__,
    }
    measured = MeasuredRows("latency_prediction", arguments.size, setting)
    measure(size, measured)
    found = held_against(measured.rows, splitter)
    print(table(found))
    if arguments.page:
        draw(found, arguments.page)


if __name__ == "__main__":
    main()
