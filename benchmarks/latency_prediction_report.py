"""From measured times to how far predictions of them are off: a table and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privynet.device_profiles.calibration import micro_models
from privynet.device_profiles.calibration.calibrate import fit_all
from privynet.device_profiles.calibration.made_profile import latency_model
from privynet.device_profiles.costs import model_costs
from privynet.device_profiles.latency.fitting import solve
from privynet.encoders import Costs, Splitter
from privynet.toolkit.latency_page import TimedNetworks, write_latency_page

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Told:
    """What one calibration predicts of the encoders, in milliseconds, each (n,), with the interval's ends."""

    ms: Array
    low: Array
    high: Array
    macs_alone: Array


@dataclass(frozen=True)
class Found:
    """The encoders of one thread count, in milliseconds, each (n,), and what each calibration predicts."""

    threads: int
    names: list[str]
    backbones: list[str]
    calibrations: list[Told]
    profiled: Array
    first: Array
    second: Array

    @property
    def calm(self) -> Array:
        """The lower of the two sessions' medians: seldom slowed twice by what else the machine does."""
        found: Array = np.minimum(self.first, self.second)
        return found


def held_against(rows: Sequence[Mapping[str, Any]], splitter: Callable[[str, int], Splitter]) -> list[Found]:
    """What each pack's times predict of every encoder that was timed in both turns."""
    packs = [
        {int(threads): ms for threads, ms in row["timed_ms"].items()} for row in rows if row["what"] == "pack"
    ]
    turns = [
        {_key(row): row for row in rows if row["what"] == "session" and row["turn"] == turn}
        for turn in (1, 2)
    ]
    found = []
    for threads in packs[0]:
        keys = [key for key in turns[0] if key in turns[1] and key[0] == threads]
        encoders = [splitter(key[1], key[2]).costs(key[3], range(key[4])) for key in keys]
        found.append(
            Found(
                threads=threads,
                names=[f"{backbone} at {size}, {cut}, {count}" for _, backbone, size, cut, count in keys],
                backbones=[key[1] for key in keys],
                calibrations=[_told(timed_ms, encoders, threads) for timed_ms in packs],
                profiled=np.array([turns[0][key]["profiled_ms"] for key in keys]),
                first=np.array([turns[0][key]["measured_ms"] for key in keys]),
                second=np.array([turns[1][key]["measured_ms"] for key in keys]),
            )
        )
    return found


def _told(timed_ms: Mapping[int, Mapping[str, float]], encoders: Sequence[Costs], threads: int) -> Told:
    costs = {one.name: model_costs(one.model) for one in micro_models()}
    fitted = fit_all({name: one.kernels for name, one in costs.items()}, timed_ms)
    model = latency_model("this machine", {"float32": {count: one.fit for count, one in fitted.items()}})
    predicted = [model.predict(one.kernels, threads=threads) for one in encoders]
    work = np.array([[1.0, costs[name].macs / 1e9] for name in timed_ms[threads]])
    per_run, per_gmac = solve(work, np.array([*timed_ms[threads].values()]))
    return Told(
        ms=np.array([one.ms for one in predicted]),
        low=np.array([one.low for one in predicted]),
        high=np.array([one.high for one in predicted]),
        macs_alone=np.array([per_run + per_gmac * one.macs / 1e9 for one in encoders]),
    )


def _key(row: Mapping[str, Any]) -> tuple[int, str, int, str, int]:
    return row["threads"], row["backbone"], row["input_size"], row["cut"], row["channels"]


def table(found: Sequence[Found]) -> str:
    """Errors of the models, and of the sessions themselves."""
    head = ("threads", "told, held against", "within 10 %", "25 %", "median", "90 %", "max", "n")
    lines = ["{:>7}  {:44} {:>11} {:>6} {:>7} {:>7} {:>6}  {}".format(*head)]
    for one in found:
        compared = {
            **{f"calibration {at}, session": (told.ms, one.first) for at, told in _numbered(one)},
            **{f"MACs alone {at}, session": (told.macs_alone, one.first) for at, told in _numbered(one)},
            "sum of the own profile, session": (one.profiled, one.first),
            **{f"calibration {at}, calm time": (told.ms, one.calm) for at, told in _numbered(one)},
            "the session itself, second turn": (one.first, one.second),
        }
        lines += [f"{one.threads:7}  {name:44} {_errors(*pair)}" for name, pair in compared.items()]
        for at, told in _numbered(one):
            inside = np.mean((told.low <= one.first) & (one.first <= told.high))
            lines.append(f"{one.threads:7}  sessions inside calibration {at}'s 90 % interval: {inside:.1%}")
        ratios = np.median([told.ms for told in one.calibrations], axis=0) / one.calm
        for backbone in dict.fromkeys(one.backbones):
            own = ratios[[name == backbone for name in one.backbones]]
            lines.append(
                f"{'':9}{backbone:24} median prediction / calm {np.median(own):.2f} "
                f"({own.min():.2f}..{own.max():.2f}), {np.mean(np.abs(own - 1) <= 0.1):.0%} within 10 %"
            )
    return "\n".join(lines)


def _numbered(found: Found) -> list[tuple[int, Told]]:
    return list(enumerate(found.calibrations, 1))


def _errors(told: Array, held: Array) -> str:
    """Of abs(told - held) / held: shares within 10 and 25 %, quantiles, n."""
    errors = np.abs(told / held - 1)
    return (
        f"{np.mean(errors <= 0.1):11.1%} {np.mean(errors <= 0.25):6.1%} {np.median(errors):7.1%} "
        f"{np.quantile(errors, 0.9):7.1%} {errors.max():6.0%}  {len(errors)}"
    )


def draw(found: Sequence[Found], path: Path) -> None:
    """The first calibration's predictions against calm times, and sessions against their second turn."""
    panels = []
    for one in found:
        panels += [
            TimedNetworks(
                title,
                {name: (float(x), float(y)) for name, x, y in zip(one.names, told, held, strict=True)},
                told_by,
            )
            for title, told, held, told_by in (
                (f"Predicted, {one.threads} threads", one.calibrations[0].ms, one.calm, "predicted"),
                (f"The same twice, {one.threads} threads", one.first, one.second, "measured before"),
            )
        ]
    write_latency_page(
        path,
        title="Latency of encoders that the calibration had not seen",
        told="Each mark is an encoder: predicted against the lower of two sessions' medians, and one"
        " session's median against the other's, which is as close as a prediction can come.",
        panels=panels,
    )
