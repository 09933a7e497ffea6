"""The machine that a target is, as the agent tells it beside every result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..targets import Target
from .sessions import AGENT, SILENCE_SECONDS, run_agent


class _Machine(BaseModel):
    machine: dict[str, Any]


def read_machine(target: Target, *, silence_seconds: float = SILENCE_SECONDS) -> dict[str, Any]:
    """The machine and the software on it, as ``machine`` of a result; nothing is timed.

    Raises :class:`PrivynetError` for what :func:`run_session` does.
    """
    command = [*target.python, target.put(AGENT), "--machine"]
    return run_agent(command, _Machine, target, silence_seconds).machine


def usable_cores(machine: Mapping[str, Any]) -> int:
    """The cores that the agent may run on; 1 where that is not told."""
    affinity = machine.get("affinity")
    return len(affinity) if affinity else int(machine.get("cpus") or 1)
