"""Measures a model's latency and memory: sessions of the agent, their summary, and whether they count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...progress import SILENT, Progress
from ..targets import open_target
from .perf_test import perf_test_session
from .sessions import Protocol, SessionResult, agent_command, run_session

# Relative change of the median that is called throttling (within a session) or unstable (between sessions).
DRIFT = 0.10
# Share of the machine's cores that others may use meanwhile.
BACKGROUND = 0.20
# A quantile is reported when at least this many runs lie above it.
TAIL_RUNS = 10
# Longer than a model's loading, a run, or a pause of a busy machine takes.
SILENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Flag:
    """Something that a reader of the figures must know; ``disqualifying`` when they must not be used."""

    code: str
    disqualifying: bool
    message: str


def bench(
    file: Path,
    *,
    threads: int = 1,
    on: str = "local",
    sessions: int = 3,
    min_seconds: float = 5.0,
    python: str | None = None,
    perf_test: Path | None = None,
    accept_new_host_key: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Latency and memory of an ONNX model whose inputs have static shapes, batch as in the file.

    ``on``, ``python``, ``accept_new_host_key``: as :func:`privynet.device_profiles.targets.open_target`;
    ``perf_test``: an onnxruntime_perf_test built for the target, to be used there instead of a Python.

    Each session is a new process: load, first run, warm-up of at least 0.5 s, then at least 100 runs and
    ``min_seconds`` (at most 60 s). Inputs are seeded random data. Keys of the result: ``latency_ms``
    {``min``, ``median``, ``p90``, ``iqr``, ``n``, and ``p99`` where n carries it} over all runs; ``load_ms``
    and ``first_ms`` (medians over sessions); ``peak_rss_kb`` (largest; null where unreadable); ``sessions``;
    ``machine``; ``on``; ``model_sha256``; ``protocol``; ``flags`` [{``code``, ``disqualifying``,
    ``message``}]; and ``valid``: no flag disqualifies.

    Raises :class:`InputError` for a file that is missing, no ONNX, or not of that form, for an unknown
    ``on``, and for counts below one; :class:`PrivynetError` when the target cannot be reached or lacks what
    is needed, and when the measuring process dies, hangs or prints nonsense.
    """
    target = open_target(on, python=python, accept_new_host_key=accept_new_host_key)
    for name, count in (("threads", threads), ("sessions", sessions)):
        if count < 1:
            raise InputError(f"{name} is {count}", hint="give a whole number of at least 1")
    limit = Protocol().max_seconds
    if not 0 < min_seconds <= limit:
        raise InputError(f"min_seconds is {min_seconds:g}", hint=f"give more than 0 and at most {limit:g}")
    for needed, what in ((file, "an ONNX file"), (perf_test, "an onnxruntime_perf_test")):
        if needed is not None and not needed.is_file():
            raise InputError(f"there is no file {needed}", hint=f"give {what}")
    protocol = Protocol(min_seconds=min_seconds)
    results = []
    with target, progress.task(f"timing {file.name}", float(sessions)) as task:
        if perf_test is None:
            command = agent_command(target, file, threads=threads, protocol=protocol)
            session: Callable[..., SessionResult] = partial(
                run_session, command, target=target, silence_seconds=SILENCE_SECONDS
            )
        else:
            session = perf_test_session(target, perf_test, file, threads=threads, protocol=protocol)
        for number in range(1, sessions + 1):
            done = 0.0

            def advance(runs: int, seconds: float, number: int = number) -> None:
                nonlocal done
                share = min(seconds / protocol.min_seconds, runs / protocol.min_runs, 1.0)
                task.advance(share - done, note=f"session {number} of {sessions}, {runs} runs")
                done = share

            results.append(session(on_running=advance))
            task.advance(1.0 - done)
    flags = find_flags(results, protocol, threads=threads)
    peaks = [result.peak_rss_kb for result in results if result.peak_rss_kb is not None]
    return {
        "latency_ms": summarise([ms for result in results for ms in result.latencies_ms]),
        "load_ms": float(np.median([result.load_ms for result in results])),
        "first_ms": float(np.median([result.first_ms for result in results])),
        "peak_rss_kb": max(peaks) if peaks else None,
        "sessions": [_session_document(result) for result in results],
        "machine": {**results[0].machine, "threads": threads},
        "on": on,
        "model_sha256": results[0].model_sha256,
        "protocol": {**asdict(protocol), "sessions": sessions, "threads": threads, "spinning": False},
        "flags": [asdict(flag) for flag in flags],
        "valid": not any(flag.disqualifying for flag in flags),
    }


def summarise(latencies_ms: Sequence[float]) -> dict[str, float | int]:
    """``min``, ``median``, ``p90``, ``iqr``, ``n``, and ``p99`` when ten runs lie above it; milliseconds."""
    values = np.asarray(latencies_ms, dtype=np.float64)
    low, median, high, p90, p99 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75, 0.9, 0.99]))
    summary: dict[str, float | int] = {
        "min": float(values.min()),
        "median": median,
        "p90": p90,
        "iqr": high - low,
        "n": len(values),
    }
    return {**summary, "p99": p99} if len(values) * 0.01 >= TAIL_RUNS else summary


def find_flags(results: Sequence[SessionResult], protocol: Protocol, *, threads: int) -> list[Flag]:
    """What speaks against the sessions' figures, or must be known beside them."""
    flags = []
    drift = max(_drift(result.latencies_ms) for result in results)
    if drift > DRIFT:
        message = f"a session's last quarter is {drift:.0%} slower than its first: cool the device"
        flags.append(Flag("throttling", True, message))
    fewest = min(len(result.latencies_ms) for result in results)
    if fewest < protocol.min_runs:
        message = f"a session has {fewest} runs in {protocol.max_seconds:g} s, fewer than {protocol.min_runs}"
        flags.append(Flag("too-few-runs", True, message))
    medians = [float(np.median(result.latencies_ms)) for result in results]
    spread = max(medians) / min(medians) - 1
    if spread > DRIFT:
        message = f"the sessions' medians differ by {spread:.0%}: leave the device alone and measure again"
        flags.append(Flag("unstable-sessions", True, message))
    cores = results[0].machine.get("cpus") or 1
    others = max((result.other_cores for result in results if result.other_cores is not None), default=0.0)
    if others > BACKGROUND * cores:
        message = f"other processes used {others:.1f} of {cores} cores meanwhile: stop them and measure again"
        flags.append(Flag("background-load", True, message))
    allowed = results[0].machine.get("affinity")
    available = len(allowed) if allowed else cores
    if threads > available:
        flags.append(Flag("oversubscribed", True, f"{threads} threads on {available} cores: lower --threads"))
    if protocol.min_seconds < Protocol().min_seconds:
        message = f"sessions of {protocol.min_seconds:g} s instead of {Protocol().min_seconds:g} s"
        flags.append(Flag("short-sessions", False, message))
    return flags


def _drift(latencies_ms: Sequence[float]) -> float:
    """How much slower the last quarter's median is than the first's, as a fraction."""
    quarter = max(1, len(latencies_ms) // 4)
    return float(np.median(latencies_ms[-quarter:]) / np.median(latencies_ms[:quarter])) - 1


def _session_document(result: SessionResult) -> dict[str, Any]:
    return {
        "latency_ms": summarise(result.latencies_ms),
        "load_ms": result.load_ms,
        "first_ms": result.first_ms,
        "timed_seconds": result.timed_seconds,
        "other_cores": result.other_cores,
        "peak_rss_kb": result.peak_rss_kb,
        "before": result.before,
        "after": result.after,
    }
