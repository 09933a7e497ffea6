"""Measures one ONNX model in a process of its own: one session of the protocol of docs/devices.md.

    python agent.py --model encoder.onnx                        latencies
    python agent.py --model encoder.onnx --compare other.onnx   two models' latencies, timed in turn
    python agent.py --model encoder.onnx --memory               what the first run takes
    python agent.py --model encoder.onnx --replay inputs.npz    what it gives for these inputs
    python agent.py --pack models.zip --pack-seconds 30         many models, a short time each
    python agent.py --machine                                   the machine alone

One file that runs by itself: Python 3.9 or later, numpy and onnxruntime. It prints JSON lines: ``loaded``,
``running`` about twice a second, and at the end ``result``; or ``error``, with ``fault`` saying whether the
model, what was asked for, or the run is to blame. Figures that a machine does not show are null.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import json
import os
import platform
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

# Before it is loaded: or it reports to its maker, and leaves an identifier of the machine in the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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


# A burst begins with runs that do not count: they bring back what the other model pushed out of the caches.
LEAD_SECONDS = 0.005
BURST_SECONDS = 0.02
SAY_SECONDS = 0.5
PACK_ROUNDS = 2
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


class ModelFault(Exception):
    """The model cannot be timed as it is."""


class UsageFault(Exception):
    """What was asked for cannot be done here."""


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


def usable_cpus() -> list[int]:
    """The CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def frequencies_khz(name: str = "scaling_cur_freq") -> list[float] | None:
    """Of the usable CPUs."""
    found = [read_number(CPU_FOLDER / f"cpu{cpu}" / "cpufreq" / name) for cpu in usable_cpus()]
    return [value for value in found if value is not None] or None


def load_average() -> list[float] | None:
    try:
        return list(os.getloadavg())
    except (AttributeError, OSError):  # Windows, Android
        return None


def machine_state() -> dict[str, Any]:
    """What changes while measuring: frequencies in kHz, temperatures in degrees Celsius, load."""
    temperatures = [read_number(path) for path in sorted(THERMAL_FOLDER.glob("thermal_zone*/temp"))]
    return {
        "frequencies_khz": frequencies_khz(),
        "temperatures_c": [value / 1000 for value in temperatures if value is not None] or None,
        "load_average": load_average(),
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
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "affinity": usable_cpus() if hasattr(os, "sched_getaffinity") else None,
        "governors": governors or None,
        "max_frequencies_khz": frequencies_khz("cpuinfo_max_freq"),
        "python": platform.python_version(),
        "memory_mb": total_memory_mb(),
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_build": onnxruntime.get_build_info(),
        "providers": ["CPUExecutionProvider"],
    }


def total_memory_mb() -> float | None:
    """The machine's main memory (Linux)."""
    for line in (read_text(Path("/proc/meminfo")) or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) / 1024
    return None


def busy_seconds() -> float | None:
    """CPU seconds that all processes, other guests too, have used since the machine started (Linux)."""
    fields = (read_text(Path("/proc/stat")) or "").split("\n")[0].split()
    if len(fields) < 9 or fields[0] != "cpu":
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[1:9])
    return (user + nice + system + irq + softirq + steal) / CLOCK_TICKS


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


def give_back_early() -> None:
    """Let tensors come from the system one by one and go back to it, as glibc does with large ones only: what
    it keeps would be taken by a run unseen."""
    try:
        import ctypes

        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)
    except (ImportError, AttributeError, OSError, TypeError):
        pass  # not glibc


def saturates() -> bool:
    """Whether sums of 8-bit products may overflow unless ONNX Runtime is told otherwise: on x86 without
    integer dot products. On others that would only cost time."""
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    return "vnni" not in (read_text(Path("/proc/cpuinfo")) or "")


def open_session(model: str | bytes, threads: int, *, arena: bool = True) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread heats a small board between the runs and hides what a real app would see.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 4
    # Without them each tensor is taken when it is needed and given back after its last use.
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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


class Model:
    """A loaded model with its inputs: ``run_once`` gives one run's milliseconds."""

    def __init__(self, file: Path, *, threads: int, seed: int, arena: bool = True) -> None:
        # Also brings the file into memory: loading times no disk.
        self.sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        start = time.perf_counter()
        self.session = open_session(str(file), threads, arena=arena)
        self.load_ms = (time.perf_counter() - start) * 1e3
        self.inputs = random_inputs(self.session, seed)
        self.clock = time.perf_counter

    def run_once(self) -> float:
        begin = self.clock()
        self.session.run(None, self.inputs)
        return (self.clock() - begin) * 1e3

    def warm_up(self, seconds: float) -> None:
        self.first_ms = self.run_once()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self.run_once()

    def described(self) -> dict[str, Any]:
        inputs = [
            {"name": described.name, "type": described.type, "shape": described.shape}
            for described in self.session.get_inputs()
        ]
        return {
            "load_ms": self.load_ms,
            "first_ms": self.first_ms,
            "model_sha256": self.sha256,
            "inputs": inputs,
        }


class Window:
    """The time in which runs are timed: how long it is, and what else the machine did in it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.limits = arguments
        self.frequencies: list[float] = []
        self.look()
        self.busy, self.own = busy_seconds(), time.process_time()
        self.begin = self.now = self.said = time.perf_counter()

    def look(self) -> None:
        """Keep the highest frequency: the CPU that works has it."""
        now = frequencies_khz()
        if now:
            self.frequencies.append(max(now))

    def goes_on(self, runs: int, at_least: int) -> bool:
        """Whether more runs are due; says about twice a second how far it is."""
        self.now = time.perf_counter()
        seconds = self.now - self.begin
        if self.now - self.said > SAY_SECONDS:
            self.said = self.now
            self.look()
            say("running", runs=runs, seconds=seconds)
        return seconds < self.limits.max_seconds and (runs < at_least or seconds < self.limits.min_seconds)

    def close(self) -> dict[str, Any]:
        """``other_cores``: CPUs that others used; ``waited_share``: of the time, in which there was no CPU.

        One thread works all the time, so that what is missing was taken. Several also wait for each other.
        """
        seconds = max(self.now - self.begin, 1e-9)
        busy, own = busy_seconds(), time.process_time() - self.own
        others = None
        if busy is not None and self.busy is not None:
            others = max(0.0, (busy - self.busy - own) / seconds)
        waited = max(0.0, 1 - own / seconds) if self.limits.threads == 1 else None
        self.look()
        return {
            "timed_seconds": self.now - self.begin,
            "other_cores": others,
            "waited_share": waited,
            "timed_frequencies_khz": self.frequencies or None,
        }


def measure(arguments: argparse.Namespace) -> None:
    """Load, warm up, time; the lines are printed on the way."""
    before = machine_state()
    models = [open_model(file, arguments) for file in (arguments.model, arguments.compare) if file]
    say("loaded", load_ms=models[0].load_ms)
    gc.disable()
    for model in models:
        model.warm_up(arguments.warmup_seconds)
    window = Window(arguments)
    if len(models) == 2:
        latencies, bursts = alternate(models, window, arguments)
    else:
        latencies, bursts = [[]], None
        while window.goes_on(len(latencies[0]), arguments.min_runs):
            latencies[0].append(models[0].run_once())
    outcome = window.close()
    timed = [
        {**models[index].described(), "latencies_ms": [round(value, 6) for value in values]}
        for index, values in enumerate(latencies)
    ]
    say(
        "result",
        **timed[0],
        **outcome,
        clock="processor" if counts_processor_time(arguments) else "wall",
        other={**timed[1], "bursts": bursts} if bursts else None,
        peak_rss_kb=peak_rss_kb(),
        machine=machine(),
        before=before,
        after=machine_state(),
    )


def open_model(file: Path, arguments: argparse.Namespace) -> Model:
    try:
        return Model(file, threads=arguments.threads, seed=arguments.seed)
    except ModelFault as error:
        if arguments.compare:
            raise ModelFault(f"{file.name}: {error}") from error
        raise


def counts_processor_time(arguments: argparse.Namespace) -> bool:
    """Whether a comparison leaves out the time in which others had the core: one thread works all the time,
    so that nothing else is left out."""
    return bool(arguments.compare and arguments.threads == 1 and os.name == "posix")


def alternate(
    models: list[Model], window: Window, arguments: argparse.Namespace
) -> tuple[list[list[float]], list[list[int]]]:
    """Time two models in turn, in bursts whose order is drawn for each pair.

    Returns the runs of each model, and for each pair of bursts how many runs of each are its.
    """
    if counts_processor_time(arguments):
        for model in models:
            model.clock = time.process_time
    order = np.random.default_rng(arguments.seed)
    latencies: list[list[float]] = [[], []]
    bursts: list[list[int]] = []
    while window.goes_on(len(bursts), arguments.min_bursts):
        counts = [0, 0]
        for which in order.permutation(2):
            until = time.perf_counter() + LEAD_SECONDS
            models[which].run_once()
            while time.perf_counter() < until:
                models[which].run_once()
            until = time.perf_counter() + BURST_SECONDS
            while counts[which] == 0 or time.perf_counter() < until:
                latencies[which].append(models[which].run_once())
                counts[which] += 1
        bursts.append(counts)
    return latencies, bursts


def measure_pack(arguments: argparse.Namespace) -> None:
    """Time each model of an archive in two rounds, so that a disturbance seldom hits both.

    Loading counts towards the time that there is. Where that is not enough for all, what comes first is
    timed; a model of which a run is long is run three times.
    """
    begin = said = time.perf_counter()
    timed: dict[str, list[float]] = {}
    gc.disable()
    with zipfile.ZipFile(arguments.pack) as archive:
        names = archive.namelist()
        for turn in range(PACK_ROUNDS):
            share = (turn + 1) / PACK_ROUNDS
            for number, name in enumerate(names):
                left = begin + share * arguments.pack_seconds - time.perf_counter()
                if left <= 0:
                    break
                try:
                    median = time_briefly(archive.read(name), left / (len(names) - number), arguments)
                except ModelFault as error:
                    raise ModelFault(f"{name}: {error}") from error
                timed.setdefault(name, []).append(median)
                if time.perf_counter() - said > SAY_SECONDS:
                    said = time.perf_counter()
                    say("running", runs=len(timed), seconds=said - begin)
    say("result", rounds_ms=timed, machine=machine())


def time_briefly(model: bytes, seconds: float, arguments: argparse.Namespace) -> float:
    """The median time of a run, in milliseconds; loading and warming up are part of the seconds."""
    begin = time.perf_counter()
    session = open_session(model, arguments.threads)
    inputs = random_inputs(session, arguments.seed)
    session.run(None, inputs)
    warm = time.perf_counter() + min(0.02, seconds / 10)
    while time.perf_counter() < warm:
        session.run(None, inputs)
    latencies: list[float] = []
    while len(latencies) < 3 or time.perf_counter() < begin + seconds:
        start = time.perf_counter()
        session.run(None, inputs)
        latencies.append((time.perf_counter() - start) * 1e3)
    return float(np.median(latencies))


def measure_memory(arguments: argparse.Namespace) -> None:
    """What the first run takes: the memory arena off, so that only what is alive at once counts.

    The inputs lie in memory before, the outputs do not. ``file_growth_kb`` is the part of
    ``peak_growth_kb`` that is pages of the runtime's own file, read as its code is first used.
    """
    give_back_early()
    model = Model(arguments.model, threads=arguments.threads, seed=arguments.seed, arena=False)
    say("loaded", load_ms=model.load_ms)
    exact = forget_the_peak()
    held, files = (status_kb("VmHWM"), status_kb("RssFile")) if exact else (None, None)
    start = time.perf_counter()
    outputs = model.session.run(None, model.inputs)
    first_ms = (time.perf_counter() - start) * 1e3
    peak, files_after = status_kb("VmHWM"), status_kb("RssFile")
    say(
        "result",
        peak_growth_kb=None if held is None or peak is None else peak - held,
        file_growth_kb=None if files is None or files_after is None else files_after - files,
        held_kb=held,
        inputs_kb=sum(array.nbytes for array in model.inputs.values()) / 1024,
        outputs_kb=sum(array.nbytes for array in outputs) / 1024,
        load_ms=model.load_ms,
        first_ms=first_ms,
        model_sha256=model.sha256,
        machine=machine(),
    )


def replay(arguments: argparse.Namespace) -> None:
    """The first output for each row of saved inputs."""
    session = open_session(str(arguments.model), arguments.threads)
    with np.load(arguments.replay, allow_pickle=False) as archive:
        inputs = {name: archive[name] for name in archive.files}
    say("loaded")
    outputs = []
    for row in range(len(next(iter(inputs.values())))):
        fed = {name: rows[row : row + 1] for name, rows in inputs.items()}
        outputs.append(session.run(None, fed)[0])
        say("running", runs=row + 1, seconds=0.0)
    whole = np.ascontiguousarray(np.concatenate(outputs))
    say(
        "result",
        dtype=whole.dtype.str,
        shape=whole.shape,
        values=base64.b64encode(whole.tobytes()).decode(),
        machine=machine(),
    )


def pin(cpus: list[int]) -> None:
    """Run on these CPUs only; threads that are started later do too."""
    if not hasattr(os, "sched_setaffinity"):
        raise UsageFault("this system cannot pin a process to CPUs")
    absent = sorted(set(cpus) - set(usable_cpus()))
    if absent:
        listed, usable = (", ".join(map(str, numbers)) for numbers in (absent, usable_cpus()))
        raise UsageFault(f"there is no CPU {listed} to run on, allowed: {usable}")
    os.sched_setaffinity(0, cpus)


def main() -> int:
    parser = argparse.ArgumentParser(description="measure one ONNX model")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=Path)
    what.add_argument("--pack", type=Path, help="a zip archive of models")
    what.add_argument("--machine", action="store_true", help="tell what is told of the machine, no more")
    parser.add_argument("--pack-seconds", type=float, default=30.0, help="for all rounds over the pack")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--replay", type=Path, help="rows of inputs, a .npz; nothing is timed")
    parser.add_argument("--compare", type=Path, help="another model, timed in turn with the first")
    parser.add_argument("--affinity", type=lambda text: [int(cpu) for cpu in text.split(",")])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup-seconds", type=float, default=0.5)
    parser.add_argument("--min-runs", type=int, default=100)
    parser.add_argument("--min-bursts", type=int, default=1)
    parser.add_argument("--min-seconds", type=float, default=5.0)
    parser.add_argument("--max-seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        if arguments.affinity:
            pin(arguments.affinity)
        if arguments.machine:
            say("result", machine=machine())
        elif arguments.pack:
            measure_pack(arguments)
        elif arguments.replay:
            replay(arguments)
        else:
            (measure_memory if arguments.memory else measure)(arguments)
    except ModelFault as error:
        say("error", fault="model", message=str(error), onnxruntime=onnxruntime.__version__)
        return 2
    except UsageFault as error:
        say("error", fault="usage", message=str(error))
        return 2
    except Exception as error:  # whatever it is, the caller gets one line
        say("error", fault="run", message=f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
