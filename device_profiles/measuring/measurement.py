"""Measures a model's latency and memory: sessions of the agent, their summary, and whether they count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...progress import SILENT, Progress
from ..targets import Target, open_target
from .perf_test import perf_test_session
from .sessions import SILENCE_SECONDS, Protocol, SessionResult, agent_command, run_session
from .validity import find_flags

# A quantile is reported when at least this many runs lie above it.
TAIL_RUNS = 10
# A session that compares has at least so many pairs of bursts.
LEAST_PAIRS = 20


def bench(
    file: Path,
    *,
    threads: int = 1,
    on: str = "local",
    sessions: int = 3,
    min_seconds: float = 5.0,
    affinity: Sequence[int] | None = None,
    python: str | None = None,
    perf_test: Path | None = None,
    accept_new_host_key: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Latency and memory of an ONNX model whose inputs have static shapes, batch as in the file.

    ``on``, ``python``, ``accept_new_host_key``: as :func:`privynet.device_profiles.targets.open_target`;
    ``perf_test``: an onnxruntime_perf_test built for the target, to be used there instead of a Python.

    Each session is a new process, which runs on the CPUs of ``affinity`` only: load, first run, warm-up of at
    least 0.5 s, then at least 100 runs and ``min_seconds`` (at most 60 s). Inputs are seeded random data.
    Keys of the result: ``latency_ms`` {``min``, ``median``, ``p90``, ``iqr``, ``n``, and ``p99`` where n
    carries it} over all runs; ``load_ms`` and ``first_ms`` (medians over sessions); ``peak_rss_kb`` (largest;
    null where unreadable); ``sessions``; ``machine``; ``on``; ``model_sha256``; ``protocol``; ``flags``
    [{``code``, ``disqualifying``, ``message``}]; and ``valid``: no flag disqualifies.

    Raises :class:`InputError` for a file that is missing, no ONNX, or not of that form, for an unknown
    ``on``, and for counts below one; :class:`PrivynetError` when the target cannot be reached or lacks what
    is needed, and when the measuring process dies, hangs or prints nonsense.
    """
    if perf_test is not None and affinity:
        raise InputError("onnxruntime_perf_test is not pinned", hint="leave out the affinity")
    protocol = Protocol(min_seconds=min_seconds)
    results = run_sessions(
        file,
        target=open_target(on, python=python, accept_new_host_key=accept_new_host_key),
        threads=threads,
        sessions=sessions,
        affinity=affinity,
        perf_test=perf_test,
        protocol=protocol,
        doing=f"timing {file.name}",
        progress=progress,
    )
    flags = find_flags(results, protocol, threads=threads)
    peaks = [result.peak_rss_kb for result in results if result.peak_rss_kb is not None]
    return {
        "latency_ms": summarise([ms for result in results for ms in result.latencies_ms]),
        "load_ms": float(np.median([result.load_ms for result in results])),
        "first_ms": float(np.median([result.first_ms for result in results])),
        "peak_rss_kb": max(peaks) if peaks else None,
        "sessions": [session_document(result) for result in results],
        "machine": {**results[0].machine, "threads": threads},
        "on": on,
        "model_sha256": results[0].model_sha256,
        "protocol": {**asdict(protocol), "sessions": sessions, "threads": threads, "spinning": False},
        "flags": [asdict(flag) for flag in flags],
        "valid": not any(flag.disqualifying for flag in flags),
    }


def run_sessions(
    file: Path,
    *,
    target: Target,
    threads: int,
    sessions: int,
    affinity: Sequence[int] | None,
    protocol: Protocol,
    doing: str,
    progress: Progress,
    perf_test: Path | None = None,
    other: Path | None = None,
    seed: int = 0,
) -> list[SessionResult]:
    """One process after the other that times ``file``, in turn with ``other`` where that is given.

    Raises as :func:`bench` does.
    """
    for name, count in (("threads", threads), ("sessions", sessions)):
        if count < 1:
            raise InputError(f"{name} is {count}", hint="give a whole number of at least 1")
    shortest, limit = protocol.min_seconds, protocol.max_seconds
    if not 0 < shortest <= limit:
        raise InputError(f"min_seconds is {shortest:g}", hint=f"give more than 0 and at most {limit:g}")
    needs = ((file, "an ONNX file"), (other, "an ONNX file"), (perf_test, "an onnxruntime_perf_test"))
    for needed, what in needs:
        if needed is not None and not needed.is_file():
            raise InputError(f"there is no file {needed}", hint=f"give {what}")
    # A comparison counts its pairs of bursts.
    enough = protocol.min_runs if other is None else LEAST_PAIRS
    results = []
    with target, progress.task(doing, float(sessions)) as task:
        if perf_test is None:
            command = agent_command(target, file, threads=threads, protocol=protocol)
            if affinity:
                command += ["--affinity", ",".join(map(str, affinity))]
            if other is not None:
                command += ["--compare", target.put(other), "--min-bursts", str(LEAST_PAIRS)]
        else:
            measure = perf_test_session(target, perf_test, file, threads=threads, protocol=protocol)
        for number in range(1, sessions + 1):
            if perf_test is None:
                # The order of the bursts is another one in each session; the inputs of one model need not be.
                seeded = [*command, "--seed", str(seed + number)] if other is not None else command
                measure = partial(run_session, seeded, target=target, silence_seconds=SILENCE_SECONDS)
            done = 0.0

            def advance(runs: int, seconds: float, number: int = number) -> None:
                nonlocal done
                share = max(done, min(seconds / protocol.min_seconds, runs / enough, 1.0))
                task.advance(share - done, note=f"session {number} of {sessions}, {runs} runs")
                done = share

            results.append(measure(on_running=advance))
            task.advance(1.0 - done)
    return results


def summarise(latencies_ms: Sequence[float]) -> dict[str, float | int | None]:
    """``min``, ``median``, ``p90``, ``iqr``, ``n``, and ``p99``, milliseconds.

    A percentile needs ten runs above it: with fewer ``p90`` is ``None`` and ``p99`` is not there.
    """
    values = np.asarray(latencies_ms, dtype=np.float64)
    low, median, high, p90, p99 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75, 0.9, 0.99]))
    summary: dict[str, float | int | None] = {
        "min": float(values.min()),
        "median": median,
        "p90": p90 if len(values) >= TAIL_RUNS * 10 else None,
        "iqr": high - low,
        "n": len(values),
    }
    return {**summary, "p99": p99} if len(values) >= TAIL_RUNS * 100 else summary


def session_document(result: SessionResult) -> dict[str, Any]:
    return {
        "latency_ms": summarise(result.latencies_ms),
        "load_ms": result.load_ms,
        "first_ms": result.first_ms,
        "timed_seconds": result.timed_seconds,
        "other_cores": result.other_cores,
        "waited_share": result.waited_share,
        "timed_frequencies_khz": result.timed_frequencies_khz,
        "peak_rss_kb": result.peak_rss_kb,
        "before": result.before,
        "after": result.after,
    }
