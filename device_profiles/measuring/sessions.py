"""Runs the measuring agent on a target, in a process of its own, and reads its lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import InputError, PrivynetError
from ..targets import Ending, Target

AGENT = Path(__file__).with_name("agent.py")
RETRY = "nothing was measured; try again"
MEMORY = "nothing was measured; a system that is out of memory does that"
KILLED = 9
# How long a process may take to end after it has closed its output.
EXIT_SECONDS = 2.0


class OtherModel(BaseModel):
    """The second model of a session that compares two; ``bursts`` are the runs of each in every pair."""

    model_config = ConfigDict(frozen=True)

    load_ms: float
    first_ms: float
    latencies_ms: list[float] = Field(min_length=1)
    model_sha256: str
    bursts: list[tuple[int, int]] = Field(min_length=1)


class SessionResult(BaseModel):
    """What the agent reports of one session; see ``agent.py``."""

    model_config = ConfigDict(frozen=True)

    load_ms: float
    first_ms: float
    latencies_ms: list[float] = Field(min_length=1)
    timed_seconds: float
    other_cores: float | None
    peak_rss_kb: int | None
    model_sha256: str
    machine: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]
    inputs: list[dict[str, Any]] = []
    waited_share: float | None = None
    timed_frequencies_khz: list[float] | None = None
    clock: str = "wall"
    other: OtherModel | None = None


class PackResult(BaseModel):
    """What the agent reports of a pack of models: the median time of those that it came to, by name."""

    model_config = ConfigDict(frozen=True)

    medians_ms: dict[str, float]
    machine: dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """How one session measures; the defaults are the protocol of docs/devices.md."""

    warmup_seconds: float = 0.5
    min_runs: int = 100
    min_seconds: float = 5.0
    max_seconds: float = 60.0


def agent_command(target: Target, model: Path, *, threads: int, protocol: Protocol) -> list[str]:
    """The command of one session on the target, where the model and the agent then are."""
    python = target.python  # says what is missing before anything is copied
    return [
        *(*python, target.put(AGENT), "--model", target.put(model), "--threads", str(threads)),
        *("--warmup-seconds", str(protocol.warmup_seconds), "--min-runs", str(protocol.min_runs)),
        *("--min-seconds", str(protocol.min_seconds), "--max-seconds", str(protocol.max_seconds)),
    ]


def run_session(
    command: Sequence[str],
    *,
    target: Target,
    silence_seconds: float,
    on_running: Callable[[int, float], None],
) -> SessionResult:
    """Run an agent and give back its result; ``on_running(runs, seconds)`` hears how far it is.

    Raises :class:`InputError` for a model the agent cannot time, :class:`PrivynetError` for an agent that
    fails, dies, says nothing for ``silence_seconds``, or prints what is not its protocol, and for a target
    that is no longer reached.
    """
    return _run(command, SessionResult, target, silence_seconds, on_running)


def run_pack(
    pack: Path,
    *,
    threads: int,
    seconds: float,
    target: Target,
    silence_seconds: float,
    on_running: Callable[[int, float], None],
) -> PackResult:
    """Time the models of a zip archive on the target for ``seconds`` in all.

    Raises as :func:`run_session` does.
    """
    python = target.python  # says what is missing before anything is copied
    command = [
        *(*python, target.put(AGENT), "--pack", target.put(pack), "--threads", str(threads)),
        *("--pack-seconds", str(seconds)),
    ]
    return _run(command, PackResult, target, silence_seconds, on_running)


Result = TypeVar("Result", bound=BaseModel)


def _run(
    command: Sequence[str],
    reported: type[Result],
    target: Target,
    silence_seconds: float,
    on_running: Callable[[int, float], None],
) -> Result:
    with target.run(command) as running:
        try:
            for line in running.lines(silence_seconds):
                result = _understand(line, reported, on_running)
                if result is not None:
                    return result
        except TimeoutError:
            message = f"the measuring process said nothing for {silence_seconds:g} s and was ended"
            raise PrivynetError(message, hint=RETRY) from None
        raise death(running.ending(EXIT_SECONDS))


def _understand(
    line: bytes, reported: type[Result], on_running: Callable[[int, float], None]
) -> Result | None:
    try:
        event = json.loads(line)
        kind = event.pop("event")
        if kind == "result":
            return reported.model_validate(event)
        if kind == "running":
            on_running(int(event["runs"]), float(event["seconds"]))
        elif kind == "error":
            fault, message = str(event["fault"]), str(event["message"])
        elif kind != "loaded":
            raise ValueError(kind)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        text = line[:80].decode("utf-8", "replace").strip()
        raise PrivynetError(
            f"the measuring process printed what is not its protocol: {text!r}",
            hint=RETRY,
        ) from error
    if kind == "error" and fault == "usage":
        raise InputError(message, hint="ask for what there is")
    if kind == "error" and fault == "model":
        raise InputError(
            f"the model cannot be timed: {message}", hint="give an ONNX file whose inputs have static shapes"
        )
    if kind == "error":
        raise PrivynetError(f"the measuring process failed: {message}")
    return None


def death(ending: Ending) -> PrivynetError:
    """What to say of a measuring process that ended without a result."""
    if ending.code is None:
        return PrivynetError("the measuring process closed its output before its result", hint=RETRY)
    last = f": {ending.said}" if ending.said else ""
    how = f"was ended by signal {-ending.code}" if ending.code < 0 else f"ended with code {ending.code}"
    hint = MEMORY if ending.code == -KILLED else RETRY
    return PrivynetError(f"the measuring process {how} before its result{last}", hint=hint)
