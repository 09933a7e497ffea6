"""The report of a run: one self-contained page, made from the run's documents alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..artifacts import RunFolder, read_document, replace_file
from .agreement import Measure, agreement, certifications, kept
from .cut_profile import cut_profiles
from .front import front
from .heat_maps import overviews
from .importance import LEAST_CANDIDATES, importance
from .pages import data_uri, template
from .tables import figure_text, number_text, relaxed_text, sends_text
from .trial_rows import STAGES, Row, evaluated, found_of_chosen, selection_text, sending_text, trial_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = ("Rebuilt best: the worst for privacy", "Around the median", "Rebuilt worst")


@dataclass(frozen=True)
class Pair:
    """An original and what the attacker made of it, as data: URIs."""

    original: str
    rebuilt: str
    psnr_db: float


@dataclass(frozen=True)
class Bar:
    """How far a limit is used."""

    metric: str
    value: str
    limit: str
    unit: str
    source: str
    share: float
    """Of the limit, 1 = all of it."""
    binds: bool

    @property
    def width(self) -> float:
        """Per cent of the bar, which ends at the limit."""
        return round(100 * min(max(self.share, 0.0), 1.0), 1)


@dataclass(frozen=True)
class StageCount:
    """How many trials came so far and no further, and what one of them took (``None``: not timed)."""

    stage: str
    trials: int
    median_s: float | None


def write_report(run: RunFolder) -> Path:
    """Write ``RUN/report.html`` (mode 0600: it may show raw images) from the run's documents.

    Reads ``result.json``, and what there is of ``bench.json``, ``evaluation.json`` and the images. Raises
    ``InputError`` when the run has no result.
    """
    page = render(
        read_document(run.result, "search-result"),
        bench=read_document(run.bench, "bench") if run.bench.exists() else None,
        evaluation=read_document(run.evaluation, "evaluation") if run.evaluation.exists() else None,
        images=_read_images(run.images) if run.images.exists() else None,
    )
    with replace_file(run.report, private=True) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.report


def render(
    result: Mapping[str, Any],
    *,
    bench: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    images: Mapping[str, NDArray[Any]] | None = None,
) -> str:
    """The page. ``images``: ``originals``, ``reconstructions`` uint8 (n, R, R, 3), ``psnr_db`` (n,)."""
    limits = result["limits"]
    every = trial_rows(result)
    rows = evaluated(every)
    certified = certifications(result)
    measures: tuple[Measure, ...] = ("accuracy", "r2")
    page = template(
        "report.html",
        form=_form,
        figure=lambda figure, spec: figure_text(figure, spec).replace("%", " %"),
        selection=selection_text,
        sending=sending_text,
        relaxed=lambda entry, metric: relaxed_text(metric, entry),
    )
    return page.render(
        result=result,
        bench=bench,
        evaluation=evaluation,
        image_rows=_rows(images),
        sends=sends_text(result) if result["encoder"] else None,
        chosen_found=found_of_chosen(result),
        bars=[_bar(metric, entry, result["binding"]) for metric, entry in limits.items()],
        front=front(
            rows,
            limit=limits.get("r2", {}).get("limit"),
            floor=result["label_only"]["r2"]["value"] if result["encoder"] else None,
        ),
        certified=certified,
        agreements=[plot for name in measures if (plot := agreement(name, certified))],
        kept=[count for name in measures if (count := kept(name, certified))],
        profiles=cut_profiles(result, rows),
        overviews=overviews(result),
        importance=importance(result, rows),
        least_candidates=LEAST_CANDIDATES,
        stages=_stages(every),
        trials=every,
        evaluated=rows,
    )


def _form(value: float, spec: str) -> str:
    """A number; per cent as the page writes them."""
    return f"{value:{spec}}".replace("%", " %")


def _stages(rows: Sequence[Row]) -> list[StageCount]:
    """Of each candidate once."""
    counts = []
    for stage in STAGES:
        here = [row for row in rows if row.repeats is None and row.stage == stage]
        seconds = [row.seconds for row in here if row.seconds is not None]
        counts.append(StageCount(stage, len(here), median(seconds) if seconds else None))
    return counts


def _bar(metric: str, entry: Mapping[str, Any], binding: Sequence[str]) -> Bar:
    from ..device_profiles import METRICS

    value, limit = entry["value"], entry["limit"]
    return Bar(
        metric=metric,
        value=number_text(value),
        limit=number_text(limit),
        unit=METRICS[metric].unit,
        source=entry["source"],
        share=value / limit if value is not None and limit else 0.0,
        binds=metric in binding,
    )


def _read_images(path: Path) -> dict[str, NDArray[Any]]:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in ("originals", "reconstructions", "psnr_db")}


def _rows(images: Mapping[str, NDArray[Any]] | None) -> list[tuple[str, list[Pair]]]:
    """The images rebuilt best (the worst ones for privacy), those in the middle, and those rebuilt worst."""
    if images is None:
        return []
    order = (-images["psnr_db"]).argsort(kind="stable")
    count = max(1, len(order) // len(_ROWS))
    starts = (0, (len(order) - count) // 2, len(order) - count)
    return [
        (title, [_pair(images, number) for number in order[start : start + count]])
        for title, start in zip(_ROWS, starts, strict=True)
    ]


def _pair(images: Mapping[str, NDArray[Any]], number: int) -> Pair:
    return Pair(
        data_uri(images["originals"][number]),
        data_uri(images["reconstructions"][number]),
        float(images["psnr_db"][number]),
    )
