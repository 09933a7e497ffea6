"""Rows of a benchmark that are measured one by one and kept: an interrupted run goes on after the last."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch


class MeasuredRows:
    """``results/NAME-SIZE.json``: the setting that the figures depend on, and the rows found so far.

    A file with another setting, another machine's among them, ends the program: rows do not mix.
    """

    def __init__(self, name: str, size: str, setting: dict[str, Any]) -> None:
        self.path = Path(__file__).parent / "results" / f"{name}-{size}.json"
        self.setting = {**setting, "machine": machine()}
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            kept = json.loads(self.path.read_text())
            if kept["setting"] != self.setting:
                sys.exit(
                    f"{self.path} was measured elsewhere or with other settings: delete it to measure anew"
                )
            self.rows = kept["rows"]

    def has(self, key: dict[str, Any]) -> bool:
        """Whether a row with these entries was measured."""
        return any(key.items() <= row.items() for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row; the file is whole at any time."""
        self.rows.append(row)
        self.path.parent.mkdir(exist_ok=True)
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(json.dumps({"setting": self.setting, "rows": self.rows}, indent=1) + "\n")
        unfinished.replace(self.path)


def count_work() -> None:
    """From here on this process has one thread, and its budgets and durations are seconds of processor time:
    what an attack achieves in them does not depend on what else the machine has to do."""
    time.monotonic = time.perf_counter = time.process_time
    torch.set_num_threads(1)


def machine() -> dict[str, Any]:
    """What of a machine decides its figures; not its name."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        **{name: importlib.metadata.version(name) for name in ("numpy", "torch")},
    }


def interval(score: dict[str, Any] | None, spec: str) -> str:
    """A score with its 95 % interval: ``25.0 (24.8..25.1)``; ``-`` for none."""
    if score is None:
        return "-"
    low, high = score["ci95"]
    return f"{score['value']:{spec}} ({low:{spec}}..{high:{spec}})"
