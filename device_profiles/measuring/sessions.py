"""Runs the measuring agent on a target, in a process of its own, and reads its lines."""

from __future__ import annotations

import functools
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ...errors import InputError, PrivynetError
from ..targets import Ending, Target

AGENT = Path(__file__).with_name("agent.py")
RETRY = "nothing was measured; try again"
MEMORY = "nothing was measured; a system that is out of memory does that"
KILLED = 9
# How long a process may take to end after it has closed its output.
EXIT_SECONDS = 2.0
SILENCE_SECONDS = 120.0
"""Longer than a model's loading, a run, or a pause of a busy machine takes."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""May be 0: a clock of whole milliseconds tells loading and the first run so."""


class OtherModel(BaseModel):
    """The second model of a session that compares two; ``bursts`` are the runs of each in every pair."""

    model_config = ConfigDict(frozen=True)

    load_ms: NotNegative
    first_ms: NotNegative
    latencies_ms: list[Positive] = Field(min_length=1)
    model_sha256: str
    bursts: list[tuple[int, int]] = Field(min_length=1)


class SessionResult(BaseModel):
    """What the agent reports of one session; see ``agent.py``."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    load_ms: NotNegative
    first_ms: NotNegative
    latencies_ms: list[Positive] = Field(min_length=1)
    timed_seconds: Positive
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
    """What the agent reports of a pack of models: of each that it came to, its rounds' medians."""

    model_config = ConfigDict(frozen=True)

    rounds_ms: dict[str, Annotated[list[Positive], Field(min_length=1)]]
    machine: dict[str, Any]

    @functools.cached_property
    def medians_ms(self) -> dict[str, float]:
        """The lower of a model's medians: what disturbs a target seldom meets both rounds."""
        return {name: min(rounds) for name, rounds in self.rounds_ms.items()}

    @property
    def agreement(self) -> float | None:
        """The share of the models timed twice whose rounds are within 10 %; ``None`` where there are none."""
        ratios = [max(rounds) / min(rounds) for rounds in self.rounds_ms.values() if len(rounds) > 1]
        return sum(ratio <= 1.1 for ratio in ratios) / len(ratios) if ratios else None


class ModelRefused(InputError):
    """The agent cannot time a model, for what ``why`` says; ``runtime`` is its ONNX Runtime's version."""

    def __init__(self, why: str, runtime: str) -> None:
        super().__init__(
            f"the model cannot be timed: {why}", hint="give a whole ONNX file whose inputs have static shapes"
        )
        self.why, self.runtime = why, runtime


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
    silence_seconds: float = SILENCE_SECONDS,
    on_running: Callable[[int, float], None],
) -> SessionResult:
    """Run an agent and give back its result; ``on_running(runs, seconds)`` hears how far it is.

    Raises :class:`InputError` for a model the agent cannot time, :class:`PrivynetError` for an agent that
    fails, dies, says nothing for ``silence_seconds``, or prints what is not its protocol, and for a target
    that is no longer reached.
    """
    return run_agent(command, SessionResult, target, silence_seconds, on_running)


def run_pack(
    pack: Path,
    *,
    threads: int,
    seconds: float,
    target: Target,
    silence_seconds: float = SILENCE_SECONDS,
    on_running: Callable[[int, float], None],
) -> PackResult:
    """Time the models of a zip archive on the target for ``seconds`` in all.

    Raises as :func:`run_session` does; but the models are ours, so that one which the target's ONNX Runtime
    cannot load is a :class:`PrivynetError`.
    """
    python = target.python  # says what is missing before anything is copied
    command = [
        *(*python, target.put(AGENT), "--pack", target.put(pack), "--threads", str(threads)),
        *("--pack-seconds", str(seconds)),
    ]
    try:
        result = run_agent(command, PackResult, target, silence_seconds, on_running)
    except ModelRefused as refused:
        raise PrivynetError(
            f"ONNX Runtime {refused.runtime} on {target.name} cannot time {refused.why}",
            hint="update onnxruntime there",
        ) from refused
    with zipfile.ZipFile(pack) as archive:
        strange = sorted(result.rounds_ms.keys() - archive.namelist())
    if strange:
        raise garbage(strange[0])
    return result


Result = TypeVar("Result", bound=BaseModel)


def run_agent(
    command: Sequence[str],
    reported: type[Result],
    target: Target,
    silence_seconds: float,
    on_running: Callable[[int, float], None] = lambda runs, seconds: None,
) -> Result:
    """What an agent reports; raises as :func:`run_session` does."""
    with target.run(command) as running:
        try:
            for line in running.lines(silence_seconds):
                event = _understand(line, reported)
                if isinstance(event, reported):
                    return event
                if isinstance(event, _Running):
                    on_running(event.runs, event.seconds)
        except TimeoutError:
            message = f"the measuring process said nothing for {silence_seconds:g} s and was ended"
            raise PrivynetError(message, hint=RETRY) from None
        raise death(running.ending(EXIT_SECONDS))


class _Running(BaseModel):
    runs: int
    seconds: NotNegative


def _understand(line: bytes, reported: type[Result]) -> Result | _Running | None:
    """The result, or how far it is, or nothing that need be known. Raises what the agent complains of."""
    try:
        event = json.loads(line, parse_constant=_no_number, parse_float=_finite)
        kind = event.pop("event")
        if kind == "result":
            return reported.model_validate(event)
        if kind == "running":
            return _Running.model_validate(event)
        if kind == "loaded":
            return None
        if kind != "error":
            raise ValueError(kind)
        fault, message, runtime = str(event["fault"]), str(event["message"]), str(event.get("onnxruntime"))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise garbage(line[:80].decode("utf-8", "replace").strip()) from error
    if fault == "usage":
        raise InputError(message, hint="ask for what there is")
    if fault == "model":
        raise ModelRefused(message, runtime)
    raise PrivynetError(f"the measuring process failed: {message}")


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def garbage(text: str) -> PrivynetError:
    """What to say of a measuring process that printed something else than its lines."""
    return PrivynetError(f"the measuring process printed what is not its protocol: {text!r}", hint=RETRY)


def death(ending: Ending) -> PrivynetError:
    """What to say of a measuring process that ended without a result."""
    if ending.code is None:
        return PrivynetError("the measuring process closed its output before its result", hint=RETRY)
    last = f": {ending.said}" if ending.said else ""
    how = f"was ended by signal {-ending.code}" if ending.code < 0 else f"ended with code {ending.code}"
    hint = MEMORY if ending.code == -KILLED else RETRY
    return PrivynetError(f"the measuring process {how} before its result{last}", hint=hint)
