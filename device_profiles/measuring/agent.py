"""Measures one ONNX model in a process of its own: one session of the protocol of docs/devices.md.

    python agent.py --model encoder.onnx --threads 1     latencies
    python agent.py --model encoder.onnx --memory        what the first run takes beside the loaded model

One file that runs by itself: Python 3.9 or later, numpy and onnxruntime. It prints JSON lines: ``loaded``,
``running`` about twice a second, and at the end ``result``; or ``error``, with ``fault`` saying whether the
model or the run is to blame. Figures that a machine does not show are null.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

CPU_FOLDER = Path("/sys/devices/system/cpu")
THERMAL_FOLDER = Path("/sys/class/thermal")
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
CLOCK_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class ModelFault(Exception):
    """The model cannot be timed as it is."""


def say(event: str, **fields: Any) -> None:
    """One JSON line."""
    print(json.dumps({"event": event, **fields}), flush=True)


def read_text(path: Path) -> str | None:
    """A small file's text, or nothing where the machine does not show it."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_number(path: Path) -> float | None:
    text = read_text(path)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def machine_state() -> dict[str, Any]:
    """What changes while measuring: frequencies in kHz, temperatures in degrees Celsius, load."""
    frequencies = [
        read_number(path) for path in sorted(CPU_FOLDER.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    ]
    temperatures = [read_number(path) for path in sorted(THERMAL_FOLDER.glob("thermal_zone*/temp"))]
    return {
        "frequencies_khz": [value for value in frequencies if value is not None] or None,
        "temperatures_c": [value / 1000 for value in temperatures if value is not None] or None,
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def processor() -> str | None:
    """The processor's or board's name."""
    for name in ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model"):
        board = read_text(Path(name))
        if board:
            return board.rstrip("\0")
    for line in (read_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Hardware"):
            return value.strip()
    return platform.processor() or None


def machine() -> dict[str, Any]:
    """What stays the same: the machine and the software on it."""
    governors = sorted(
        {read_text(path) for path in CPU_FOLDER.glob("cpu[0-9]*/cpufreq/scaling_governor")} - {None}, key=str
    )
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "affinity": affinity,
        "governors": governors or None,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_build": onnxruntime.get_build_info(),
        "providers": ["CPUExecutionProvider"],
    }


def busy_seconds() -> float | None:
    """CPU seconds that all processes together have used since the machine started (Linux)."""
    fields = (read_text(Path("/proc/stat")) or "").split("\n")[0].split()
    if len(fields) < 8 or fields[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[1:8])
    return (user + nice + system + irq + softirq) / CLOCK_TICKS


def status_kb(key: str) -> int | None:
    """A figure of this process's memory: the most it has held (``VmHWM``), files' pages (``RssFile``)."""
    for line in (read_text(Path("/proc/self/status")) or "").splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return None


def peak_rss_kb() -> int | None:
    """The most memory this process has held, interpreter and runtime included."""
    held = status_kb("VmHWM")
    if held is not None:
        return held
    # Only where there is no /proc: on Linux this figure is inherited from the process that started this one.
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def forget_the_peak() -> bool:
    """Let the peak begin anew at what the process holds now; whether the machine can (Linux)."""
    try:  # what loading has freed goes back to the system, or a run could take it unseen
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)
    except (ImportError, AttributeError, OSError, TypeError):
        pass  # not glibc
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def open_session(model: Path, threads: int, *, arena: bool = True) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread heats a small board between the runs and hides what a real app would see.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4
    # Without them each tensor is taken when it is needed and given back after its last use.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception types have no common base but this
        raise ModelFault("ONNX Runtime cannot load it: " + " ".join(str(error).split())) from error


def random_inputs(session: Any, seed: int) -> dict[str, Any]:
    """Seeded random data for all inputs: an image's integers, standard normal noise for floats."""
    generator = np.random.default_rng(seed)
    inputs = {}
    for described in session.get_inputs():
        if not all(isinstance(size, int) for size in described.shape):
            raise ModelFault(f"its input {described.name} has the open shape {described.shape}")
        if described.type not in DTYPES:
            raise ModelFault(f"its input {described.name} is {described.type}, allowed: {', '.join(DTYPES)}")
        dtype = np.dtype(DTYPES[described.type])
        if dtype.kind == "f":
            values = generator.standard_normal(described.shape)
        else:
            values = generator.integers(0, 256 if dtype == np.uint8 else 128, described.shape)
        inputs[described.name] = values.astype(dtype)
    return inputs


def measure(arguments: argparse.Namespace) -> None:
    """Load, warm up, time; the lines are printed on the way."""
    before = machine_state()
    digest = hashlib.sha256(arguments.model.read_bytes()).hexdigest()
    start = time.perf_counter()
    session = open_session(arguments.model, arguments.threads)
    load_ms = (time.perf_counter() - start) * 1e3
    inputs = random_inputs(session, arguments.seed)
    say("loaded", load_ms=load_ms)

    def run_once() -> float:
        begin = time.perf_counter()
        session.run(None, inputs)
        return (time.perf_counter() - begin) * 1e3

    first_ms = run_once()
    warm_until = time.perf_counter() + arguments.warmup_seconds
    while time.perf_counter() < warm_until:
        run_once()

    latencies: list[float] = []
    begin = now = said = time.perf_counter()
    busy_before, own_before = busy_seconds(), time.process_time()
    while now - begin < arguments.max_seconds and (
        len(latencies) < arguments.min_runs or now - begin < arguments.min_seconds
    ):
        latencies.append(run_once())
        now = time.perf_counter()
        if now - said > 0.5:
            said = now
            say("running", runs=len(latencies), seconds=now - begin)
    busy_after, own_after = busy_seconds(), time.process_time()
    other_cores = None
    if busy_before is not None and busy_after is not None and now > begin:
        other_cores = max(0.0, (busy_after - busy_before - (own_after - own_before)) / (now - begin))
    say(
        "result",
        load_ms=load_ms,
        first_ms=first_ms,
        latencies_ms=[round(value, 6) for value in latencies],
        timed_seconds=now - begin,
        other_cores=other_cores,
        peak_rss_kb=peak_rss_kb(),
        model_sha256=digest,
        machine=machine(),
        before=before,
        after=machine_state(),
    )


def measure_memory(arguments: argparse.Namespace) -> None:
    """What the first run takes: the memory arena off, so that only what is alive at once counts.

    The inputs lie in memory before, the outputs do not. ``file_growth_kb`` is the part of
    ``peak_growth_kb`` that is pages of the runtime's own file, read as its code is first used.
    """
    digest = hashlib.sha256(arguments.model.read_bytes()).hexdigest()
    start = time.perf_counter()
    session = open_session(arguments.model, arguments.threads, arena=False)
    load_ms = (time.perf_counter() - start) * 1e3
    inputs = random_inputs(session, arguments.seed)
    say("loaded", load_ms=load_ms)
    exact = forget_the_peak()
    held, files = (status_kb("VmHWM"), status_kb("RssFile")) if exact else (None, None)
    start = time.perf_counter()
    outputs = session.run(None, inputs)
    first_ms = (time.perf_counter() - start) * 1e3
    peak, files_after = status_kb("VmHWM"), status_kb("RssFile")
    say(
        "result",
        peak_growth_kb=None if held is None or peak is None else peak - held,
        file_growth_kb=None if files is None or files_after is None else files_after - files,
        held_kb=held,
        inputs_kb=sum(array.nbytes for array in inputs.values()) / 1024,
        outputs_kb=sum(array.nbytes for array in outputs) / 1024,
        load_ms=load_ms,
        first_ms=first_ms,
        model_sha256=digest,
        machine=machine(),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="measure one ONNX model")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup-seconds", type=float, default=0.5)
    parser.add_argument("--min-runs", type=int, default=100)
    parser.add_argument("--min-seconds", type=float, default=5.0)
    parser.add_argument("--max-seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        (measure_memory if arguments.memory else measure)(arguments)
    except ModelFault as error:
        say("error", fault="model", message=str(error))
        return 2
    except Exception as error:  # whatever it is, the caller gets one line
        say("error", fault="run", message=f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
