"""Which of two models is faster, on a machine that need not be quiet: timed in turn in the same processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PrivynetError
from ...progress import SILENT, Progress
from ..targets import open_target
from .measurement import LEAST_PAIRS, run_sessions, session_document, summarise
from .sessions import Protocol, SessionResult
from .validity import Flag, told

QUIET = 0.5
"""Share of the pairs that count: those in which neither model was slowed by much."""
RESAMPLES = 1000
TELLING = 0.05
"""An interval that holds 1 and reaches farther than this from it tells nothing."""


@dataclass(frozen=True)
class Ratio:
    """How long one model takes, relative to the other; ``n`` pairs of bursts."""

    value: float
    ci95: tuple[float, float]
    n: int

    @property
    def differs(self) -> bool:
        """Whether the interval leaves 1 out."""
        low, high = self.ci95
        return high < 1 or low > 1

    def words(self, name: str, other: str) -> str:
        """The answer as a sentence."""
        low, high = self.ci95
        if self.differs:
            return f"{name} takes {self.value:.4g} ({low:.4g}..{high:.4g}) times as long as {other}"
        return f"no difference seen: {name} takes {low:.4g} to {high:.4g} times as long as {other}"


def compare(
    file: Path,
    other: Path,
    *,
    threads: int = 1,
    on: str = "local",
    sessions: int = 3,
    min_seconds: float = 5.0,
    affinity: Sequence[int] | None = None,
    python: str | None = None,
    accept_new_host_key: bool = False,
    names: tuple[str, str] | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """How long ``file`` takes relative to ``other``, two ONNX models as in :func:`bench`.

    Each session is a new process that loads both and times them in turn, in short bursts whose order is
    drawn with ``seed``. Keys of the result: ``ratio`` {``value``, ``ci95``, ``n``}; ``verdict``, a sentence
    with ``names``; ``latency_ms``, ``load_ms``, ``first_ms`` and ``model_sha256`` of ``file``, and in
    ``other`` those of the other; ``peak_rss_kb`` (null: both were in one process); ``sessions``, ``machine``,
    ``on``, ``protocol``, ``flags``, ``valid`` as of :func:`bench`. A comparison is valid by its interval
    (the machine's other work makes it wider, not wrong), unless there are more threads than cores.

    Raises as :func:`bench` does.
    """
    protocol = Protocol(min_seconds=min_seconds)
    results = run_sessions(
        file,
        target=open_target(on, python=python, accept_new_host_key=accept_new_host_key),
        threads=threads,
        sessions=sessions,
        affinity=affinity,
        protocol=protocol,
        doing=f"comparing {file.name} and {other.name}",
        progress=progress,
        other=other,
        seed=seed,
    )
    ratio = estimate([burst_medians(result) for result in results], seed=seed)
    flags = [*_inconclusive(ratio, sessions), *told(results, protocol, threads=threads)]
    others = [result.other for result in results if result.other is not None]
    return {
        "ratio": asdict(ratio),
        "verdict": ratio.words(*(names or (file.name, other.name))),
        **_model_document(results),
        "other": _model_document(others),
        "peak_rss_kb": None,
        "sessions": [session_document(result) for result in results],
        "machine": {**results[0].machine, "threads": threads},
        "on": on,
        "protocol": {
            **asdict(protocol),
            "sessions": sessions,
            "threads": threads,
            "spinning": False,
            "clock": results[0].clock,
            "quiet_share": QUIET,
        },
        "flags": [asdict(flag) for flag in flags],
        "valid": not any(flag.disqualifying for flag in flags),
    }


def burst_medians(result: SessionResult) -> NDArray[np.float64]:
    """The median run of each burst, milliseconds: (pairs, 2), the other model's second."""
    assert result.other is not None
    counts = np.asarray(result.other.bursts)
    columns = []
    for runs, ends in zip(
        (result.latencies_ms, result.other.latencies_ms), np.cumsum(counts, axis=0).T, strict=True
    ):
        if len(runs) != ends[-1] or counts.min() < 1:
            raise PrivynetError(f"the measuring process lost runs: {len(runs)} of {ends[-1]} are there")
        columns.append([np.median(burst) for burst in np.split(np.asarray(runs), ends[:-1])])
    return np.asarray(columns).T


def estimate(sessions: Sequence[NDArray[np.float64]], *, seed: int = 0) -> Ratio:
    """The median ratio of the pairs (pairs, 2) that are in the quieter half.

    How much a pair was disturbed is the slowdown, relative to its model's fastest burst, of whichever of its
    two bursts has the larger: a choice that favours neither. The 95 % interval is a bootstrap that draws
    sessions, then pairs of each, and chooses the quieter half anew: it keeps pairs together, and knows that
    what one process found, another may not.
    """
    generator = np.random.default_rng(seed)
    found = _quiet_ratio(np.concatenate(sessions))
    drawn = [
        _quiet_ratio(
            np.concatenate(
                [
                    sessions[index][generator.integers(0, len(sessions[index]), len(sessions[index]))]
                    for index in generator.integers(0, len(sessions), len(sessions))
                ]
            )
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    # With few pairs the sample itself can lie outside of what is drawn from it.
    return Ratio(found, (min(float(low), found), max(float(high), found)), sum(map(len, sessions)))


def _quiet_ratio(pairs: NDArray[np.float64]) -> float:
    slowdown = (pairs / pairs.min(axis=0)).max(axis=1)
    quiet = pairs[slowdown <= np.quantile(slowdown, QUIET)]
    return float(np.exp(np.median(np.log(quiet[:, 0] / quiet[:, 1]))))


def _inconclusive(ratio: Ratio, sessions: int) -> list[Flag]:
    low, high = ratio.ci95
    flags = []
    if ratio.n < LEAST_PAIRS:
        message = (
            f"only {ratio.n} pairs of bursts fitted in, fewer than {LEAST_PAIRS}: ask for more --sessions"
        )
        flags.append(Flag("too-few-runs", True, message))
    if not ratio.differs and max(1 / low, high) - 1 > TELLING:
        message = f"the interval, {low:.3g} to {high:.3g}, is too wide to tell: ask for more --sessions"
        flags.append(Flag("inconclusive", True, message))
    if sessions == 1:
        message = "one session: what differs from process to process is not in the interval"
        flags.append(Flag("one-session", False, message))
    return flags


def _model_document(results: Sequence[Any]) -> dict[str, Any]:
    return {
        "latency_ms": summarise([ms for result in results for ms in result.latencies_ms]),
        "load_ms": float(np.median([result.load_ms for result in results])),
        "first_ms": float(np.median([result.first_ms for result in results])),
        "model_sha256": results[0].model_sha256,
    }
