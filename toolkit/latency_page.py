"""Predicted against measured times: one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from ..artifacts import replace_file
from .charts import Frame, log_framed
from .pages import template

if TYPE_CHECKING:
    from ..device_profiles.calibration import Calibration

_AREA = Frame(width=460, height=440, left=64, right=446, top=14, bottom=384)
_BANDS = (0.25, 0.1)
"""Drawn around equality, the wider first."""


@dataclass(frozen=True)
class TimedNetworks:
    """A panel: networks by name, each with its predicted and its measured time in milliseconds."""

    title: str
    times_ms: Mapping[str, tuple[float, float]]
    told_by: str = "predicted"
    """Where the first of the two times is from."""

    def errors(self) -> list[float]:
        """abs(predicted - measured) / measured"""
        return [abs(told / held - 1) for told, held in self.times_ms.values()]


@dataclass(frozen=True)
class Mark:
    """A network's place, and what the reader sees when pointing at it."""

    x: float
    y: float
    title: str
    far: bool
    """Further off than the wider band."""


@dataclass(frozen=True)
class Scatter:
    """A panel as it is drawn: the corners of the bands as SVG's ``points``, and the networks."""

    title: str
    frame: Frame
    bands: tuple[str, ...]
    marks: tuple[Mark, ...]
    within: tuple[str, ...]
    """The shares of networks inside the bands, in words."""
    median: float
    largest: float
    n: int
    told_by: str


def write_calibration_page(calibration: Calibration, path: Path) -> None:
    """The micro-models of a calibration, each predicted by a fit that had not seen it."""
    panels = [
        TimedNetworks(
            _title(precision, threads, calibration.agreement[precision][threads]),
            {
                name: (ms / ratio, ms)
                for (name, ms), ratio in zip(one.times_ms.items(), one.fit.ratios, strict=True)
            },
        )
        for precision, fitted in calibration.fitted.items()
        for threads, one in fitted.items()
    ]
    write_latency_page(
        path,
        title=f"How far predictions for {calibration.profile.name} are off",
        told=f"{calibration.profile.title}; {calibration.profile.runtime}. Each mark is one of the small"
        " networks that were timed there, predicted by a fit to nine tenths of the others, which it was not"
        " among.",
        warning=calibration.busy,
        panels=panels,
    )


def _title(precision: str, threads: int, agreement: float | None) -> str:
    twice = "" if agreement is None else f", {agreement:.0%} took the same twice"
    return f"{precision}, {threads} thread{'s' if threads > 1 else ''}{twice}"


def write_latency_page(
    path: Path, *, title: str, told: str, panels: Sequence[TimedNetworks], warning: str | None = None
) -> None:
    """One plot a panel, both axes logarithmic, with the lines between which predictions are 10 and 25 % off.

    Each panel has at least one network; ``told`` says what the marks are, ``warning`` why they are not to be
    relied on. Raises
    :class:`privynet.errors.InputError` when the place cannot be written, and
    :class:`privynet.errors.PrivynetError` when the disk is full.
    """
    scatters = [_scatter(one) for one in panels]
    page = template("latency.html").render(title=title, told=told, warning=warning, scatters=scatters)
    with replace_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _scatter(panel: TimedNetworks) -> Scatter:
    frame = log_framed(_AREA, (ms for times in panel.times_ms.values() for ms in times))
    errors = panel.errors()
    return Scatter(
        title=panel.title,
        frame=frame,
        bands=tuple(_band(frame, band) for band in _BANDS),
        marks=tuple(
            Mark(
                frame.x(math.log10(told)),
                frame.y(math.log10(held)),
                f"{name}: {panel.told_by} {told:.4g} ms, measured {held:.4g} ms",
                abs(told / held - 1) > _BANDS[0],
            )
            for name, (told, held) in panel.times_ms.items()
        ),
        within=tuple(
            f"{sum(error <= band for error in errors) / len(errors):.0%} within {band:.0%}"
            for band in sorted(_BANDS)
        ),
        median=median(errors),
        largest=max(errors),
        n=len(errors),
        told_by=panel.told_by,
    )


def _band(frame: Frame, band: float) -> str:
    """Where predictions are at most ``band`` off: between predicted = (1 - band) and (1 + band) measured."""
    up, down = math.log10(1 / (1 - band)), math.log10(1 / (1 + band))
    low, high = frame.x_low, frame.x_high
    corners = [(low, low + up), (high, high + up), (high, high + down), (low, low + down)]
    return " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in corners)
