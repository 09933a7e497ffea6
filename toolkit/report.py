"""The report of a run: one self-contained page, made from the run's documents alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import RunFolder, read_document, replace_file
from .charts import State, Trial, scatter
from .pages import data_uri, template
from .tables import number_text

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
    evaluated = [trial for trial in result["trial_table"] if trial["state"] == "evaluated"]
    return template("report.html").render(
        result=result,
        bench=bench,
        evaluation=evaluation,
        rows=_rows(images),
        bars=[_bar(metric, entry, result["binding"]) for metric, entry in limits.items()],
        plot=scatter(
            [_trial(trial, result) for trial in evaluated],
            limit=limits.get("r2", {}).get("limit"),
            floor=result["label_only"]["r2"]["value"] if result["encoder"] else None,
        ),
        evaluated=evaluated,
        chosen=result.get("trial"),
    )


def _trial(trial: Mapping[str, Any], result: Mapping[str, Any]) -> Trial:
    state: State = "feasible" if trial["feasible"] else "infeasible"
    if trial["number"] == result.get("trial"):
        state = "chosen"
    utility, r2 = trial["utility"]["value"], trial["metrics"]["r2"]
    missed = f"; over its limit: {', '.join(trial['violated'])}" if trial["violated"] else ""
    title = (
        f"trial {trial['number']}: {trial['cut']}, {trial['channels']} channels ({trial['policy']}), "
        f"{trial['input_size']} pixels; accuracy {utility:.1%}, R2 {r2:.3f}{missed}"
    )
    return Trial(r2, utility, state, title)


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
