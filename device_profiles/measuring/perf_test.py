"""A session by ONNX Runtime's own onnxruntime_perf_test, for a target that has no Python.

It is not the agent: what it does not tell is null, its warm-up is cut off the front of its runs, and its
inputs are random, but not ours. Its options and its output: ``onnxruntime/test/perftest`` of ONNX Runtime.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from ...artifacts import file_digest
from ...errors import InputError, PrivynetError
from ..targets import Target
from .sessions import EXIT_SECONDS, RETRY, Protocol, SessionResult, death, garbage

# Beyond the time it is told to run: loading on a slow phone.
_PATIENCE_SECONDS = 120.0
_FIGURE = re.compile(r"^(?P<name>[A-Z][\w ]*?): ?(?P<value>[0-9.e+-]+)(?: (?:s|ms|bytes|%))?\s*$")
_LOAD, _FIRST, _PEAK = "Session creation time cost", "First inference time cost", "Peak working set size"
_REFUSAL = re.compile(r"load(ing)? model|invalid|unsupported|not a valid model|ModelProto", re.IGNORECASE)


def perf_test_session(
    target: Target, program: Path, model: Path, *, threads: int, protocol: Protocol
) -> Callable[..., SessionResult]:
    """What measures one session, called with ``on_running``, after program and model were put on the target.

    A shared library of ONNX Runtime that lies beside the program goes with it.
    """
    for library in sorted(program.parent.glob("libonnxruntime*.so*")):
        target.put(library, name=library.name)
    path = target.put(program, executable=True)
    libraries = str(PurePosixPath(path).parent)
    there, digest = target.put(model), file_digest(model)
    machine = _machine(target, program)

    def session(*, on_running: Callable[[int, float], None]) -> SessionResult:
        seconds = math.ceil(protocol.warmup_seconds + protocol.min_seconds)
        result = run(seconds)
        if len(result.latencies_ms) < protocol.min_runs and seconds < protocol.max_seconds:
            each = result.timed_seconds / len(result.latencies_ms)
            needed = math.ceil(protocol.warmup_seconds + 1.1 * each * protocol.min_runs)
            result = run(min(needed, math.ceil(protocol.max_seconds)))
        on_running(len(result.latencies_ms), result.timed_seconds)
        return result

    def run(seconds: int) -> SessionResult:
        output = f"{target.folder}/perf_test.csv"
        options = [*("-e", "cpu", "-I", "-S", "1", "-D", "-s", "-m", "duration"), *("-t", str(seconds))]
        script = ': >"$1"; LD_LIBRARY_PATH="$0:$LD_LIBRARY_PATH"; export LD_LIBRARY_PATH; shift; exec "$@"'
        command = [path, *options, *("-x", str(threads), "-y", "1"), there, output]
        figures = _run(target, ["sh", "-c", script, libraries, output, *command], seconds)
        latencies = _after_warmup(_read_runs(target.read(output)), protocol.warmup_seconds)
        missing = [name for name in (_LOAD, _FIRST) if name not in figures]
        if missing or not latencies:
            what = f"no {missing[0]!r}" if missing else "no runs"
            raise PrivynetError(f"{program.name} told {what}", hint="take that of a newer ONNX Runtime")
        peak = figures.get(_PEAK)
        return SessionResult(
            load_ms=figures[_LOAD] * 1e3,
            first_ms=figures[_FIRST],
            latencies_ms=latencies,
            timed_seconds=sum(latencies) / 1e3,
            other_cores=None,
            peak_rss_kb=round(peak / 1024) if peak else None,
            model_sha256=digest,
            machine=machine,
            before=dict.fromkeys(_STATE),
            after=dict.fromkeys(_STATE),
        )

    return session


_STATE = ("frequencies_khz", "temperatures_c", "load_average")


def _run(target: Target, command: list[str], seconds: int) -> dict[str, float]:
    """The figures that the program prints, by their names."""
    figures: dict[str, float] = {}
    other = ""
    with target.run(command) as running:
        try:
            for line in running.lines(seconds + _PATIENCE_SECONDS):
                text = line.decode("utf-8", "replace").strip()
                if found := _FIGURE.match(text):
                    figures[found["name"]] = _figure(found["value"])
                elif text:
                    other = text[:200]
        except TimeoutError:
            message = (
                f"the measuring process said nothing for {seconds + _PATIENCE_SECONDS:g} s and was ended"
            )
            raise PrivynetError(message, hint=RETRY) from None
        except ValueError:
            raise garbage(text[:80]) from None
        ending = running.ending(EXIT_SECONDS)
    if ending.code != 0:
        said = ending.said or other
        if ending.code is not None and ending.code > 0 and _REFUSAL.search(said):
            raise InputError(
                f"the model cannot be timed: {said}", hint="give an ONNX file whose inputs have static shapes"
            )
        raise death(type(ending)(ending.code, said))
    return figures


def _read_runs(text: bytes) -> list[float]:
    """Milliseconds of each run; a line is ``name,seconds,peak bytes,CPU %,number``."""
    latencies = []
    for line in text.decode("utf-8", "replace").splitlines():
        fields = line.rsplit(",", 4)
        if len(fields) == 5:
            try:
                latencies.append(_figure(fields[1]) * 1e3)
            except ValueError:
                raise PrivynetError(
                    f"the measuring process wrote what is not its protocol: {line[:80]!r}", hint=RETRY
                ) from None
    if 0 in latencies:
        raise PrivynetError("the measuring process wrote runs that took no time", hint=RETRY)
    return latencies


def _figure(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def _after_warmup(latencies: list[float], warmup_seconds: float) -> list[float]:
    """Those that came after so long."""
    elapsed = 0.0
    for number, latency in enumerate(latencies):
        if elapsed >= warmup_seconds * 1e3:
            return latencies[number:]
        elapsed += latency
    return []


_FIND = (
    'while IFS=: read -r key name; do case $key in "model name"*|Hardware*) echo "$name"; break;; esac; done'
)
_ASK = (
    "nproc || echo; uname -m || echo; uname -sr || echo; getprop ro.product.model || "
    f"tr -d '\\0' </proc/device-tree/model || {_FIND} </proc/cpuinfo"
)
"""The name is the phone's, the board's or the processor's: the host's is private, and results are shared."""


def _machine(target: Target, program: Path) -> dict[str, Any]:
    """What a shell can say of the machine; the program itself tells nothing."""
    with target.run(["sh", "-c", f"{{ {_ASK}; }} 2>/dev/null"]) as running:
        lines = [line.decode("utf-8", "replace").strip() for line in running.lines(_PATIENCE_SECONDS)]
    cpus, architecture, system, name = (line or None for line in (*lines, "", "", "", "")[:4])
    return {
        "processor": name,
        "architecture": architecture,
        "system": system,
        "cpus": int(cpus) if cpus and cpus.isdigit() else None,
        **dict.fromkeys(("affinity", "governors", "python", "onnxruntime", "onnxruntime_build")),
        "providers": ["CPUExecutionProvider"],
        "program": program.name,
    }
