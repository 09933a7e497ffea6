"""What speaks against measured figures, or must be known beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .machine import usable_cores
from .sessions import Protocol, SessionResult

DRIFT = 0.10
"""Relative change of the median that is called throttling (within a session) or unstable (between sessions).
On a quiet machine it is 1 to 3 %; the next step of a processor's frequency is often as much as this."""
SLIGHT_DRIFT = 0.03
"""What is beyond a quiet machine's; with a frequency that fell by ``DRIFT`` it is throttling, too."""
BACKGROUND = 0.20
"""Share of the machine's cores that others may use meanwhile. A desktop or a phone at rest uses 2 to 10 %;
more than this competes for memory and heats the chip, even where it leaves our cores alone."""
WAITING = 0.05
"""Share of the time in which a single thread of ours may be without a core. At rest it is below 1 %."""


@dataclass(frozen=True)
class Flag:
    """Something that a reader of the figures must know; ``disqualifying`` when they must not be used."""

    code: str
    disqualifying: bool
    message: str


def find_flags(results: Sequence[SessionResult], protocol: Protocol, *, threads: int) -> list[Flag]:
    """What speaks against the sessions' figures, or must be known beside them."""
    found = [
        _throttling(results),
        _too_few_runs(results, protocol),
        _unstable(results),
        _background(results),
        *told(results, protocol, threads=threads),
    ]
    return [flag for flag in found if flag is not None]


def told(results: Sequence[SessionResult], protocol: Protocol, *, threads: int) -> list[Flag]:
    """What follows from how it was measured, whatever came out."""
    flags = []
    cores = usable_cores(results[0].machine)
    if threads > cores:
        flags.append(Flag("oversubscribed", True, f"{threads} threads on {cores} cores: lower --threads"))
    batch = _batch(results[0])
    if batch != 1:
        flags.append(
            Flag("batch", False, f"the model takes {batch} images at once: figures are for all of them")
        )
    if protocol.min_seconds < Protocol().min_seconds:
        message = f"sessions of {protocol.min_seconds:g} s instead of {Protocol().min_seconds:g} s"
        flags.append(Flag("short-sessions", False, message))
    return flags


def _throttling(results: Sequence[SessionResult]) -> Flag | None:
    drift = max(_drift(result.latencies_ms) for result in results)
    if drift > DRIFT:
        message = f"a session's last quarter is {drift:.0%} slower than its first: cool the device"
        return Flag("throttling", True, message)
    seen = [quarters(result.timed_frequencies_khz) for result in results if result.timed_frequencies_khz]
    if not seen:
        return None
    fall = 1 - min(last for _, last in seen) / max(first for first, _ in seen)
    if fall <= DRIFT:
        return None
    medians = [float(np.median(result.latencies_ms)) for result in results]
    message = f"the processor's frequency fell by {fall:.0%} while timing"
    if max(drift, medians[-1] / medians[0] - 1) > SLIGHT_DRIFT:
        return Flag("throttling", True, f"{message} and runs became slower: cool the device")
    return Flag("frequency-fell", False, f"{message}, but runs did not become slower")


def _too_few_runs(results: Sequence[SessionResult], protocol: Protocol) -> Flag | None:
    fewest = min(len(result.latencies_ms) for result in results)
    if fewest >= protocol.min_runs:
        return None
    message = f"a session has {fewest} runs in {protocol.max_seconds:g} s, fewer than {protocol.min_runs}"
    return Flag("too-few-runs", True, message)


def _unstable(results: Sequence[SessionResult]) -> Flag | None:
    medians = [float(np.median(result.latencies_ms)) for result in results]
    spread = max(medians) / min(medians) - 1
    if spread <= DRIFT:
        return None
    message = f"the sessions' medians differ by {spread:.0%}: leave the device alone and measure again"
    return Flag("unstable-sessions", True, message)


def _background(results: Sequence[SessionResult]) -> Flag | None:
    """The processes of others: what they used, what they took from us, or where neither is shown the load."""
    step = "stop them and measure again"
    waiting = max((result.waited_share for result in results if result.waited_share is not None), default=0.0)
    cores = results[0].machine.get("cpus") or 1
    used = [result.other_cores for result in results if result.other_cores is not None]
    if used and max(used) > BACKGROUND * cores:
        message = f"other processes used {max(used):.1f} of {cores} cores meanwhile: {step}"
    elif waiting > WAITING:
        message = (
            f"the process had to wait for a core for {waiting:.0%} of the time: stop others, measure again"
        )
    elif not used and _load(results[0]) > BACKGROUND * cores:
        message = f"the load average of {cores} cores was {_load(results[0]):.1f} before: {step}"
    else:
        return None
    return Flag("background-load", True, message)


def _load(result: SessionResult) -> float:
    """The load average of the last minute before a session; later ones hold our own work, too."""
    return float((result.before.get("load_average") or [0.0])[0])


def _batch(result: SessionResult) -> int:
    """How many images one run takes."""
    shapes = [described["shape"] for described in result.inputs]
    return max((int(shape[0]) for shape in shapes if len(shape) == 4), default=1)


def _drift(latencies_ms: Sequence[float]) -> float:
    """How much slower the last quarter's median is than the first's, as a fraction."""
    first, last = quarters(latencies_ms)
    return last / first - 1


def quarters(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and the last quarter."""
    quarter = max(1, len(values) // 4)
    return float(np.median(values[:quarter])), float(np.median(values[-quarter:]))
