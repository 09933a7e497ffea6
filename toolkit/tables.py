"""What several verbs print: scores, limits, trials, findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .console import table

if TYPE_CHECKING:
    import rich.table


def score_text(score: Mapping[str, Any], spec: str = ".1%") -> str:
    """A score with its interval: ``96.1% (95.2% to 96.9%, n=359)``."""
    low, high = score["ci95"]
    return f"{score['value']:{spec}} ({low:{spec}} to {high:{spec}}, n={score['n']:,})"


def number_text(value: float | None) -> str:
    """A metric's value, short enough for a table."""
    if value is None:
        return "-"
    if value and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def findings_table(findings: Sequence[Mapping[str, Any]]) -> Iterator[rich.table.Table | str]:
    """Findings, or that there are none."""
    if not findings:
        yield "no findings"
        return
    rows = [(f["severity"], f["code"], f["file"], f["message"]) for f in findings]
    yield table(["severity", "code", "file", "finding"], rows)


def limits_table(limits: Mapping[str, Mapping[str, Any]]) -> rich.table.Table:
    """The limits with their sources, before anything was found."""
    rows = [(metric, number_text(entry["limit"]), entry["source"]) for metric, entry in limits.items()]
    return table(["limit", ">at most", "set by"], rows)


def search_tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """A search's outcome: the encoder and how far it uses each limit, or the nearest misses."""
    trials = result["trials"]
    yield (
        f"{trials['total']} trials: {trials['evaluated']} evaluated, {trials['pruned']} ended early, "
        f"{trials['feasible']} within all limits"
    )
    if result["encoder"] is None:
        yield from _nearest_tables(result)
        return
    encoder = result["encoder"]
    yield (
        f"encoder: {encoder['backbone']} at {encoder['input_size']} pixels, cut {encoder['cut']}, "
        f"{len(encoder['channels'])} channels kept"
    )
    yield f"utility ({result['utility']['metric']} of a quick head): {score_text(result['utility'])}"
    loss = result["privacy_loss"]
    yield (
        f"privacy loss: R2 {score_text(loss['r2'], '.3f')}, PSNR {loss['psnr_db']['value']:.1f} dB, "
        f"SSIM {loss['ssim']['value']:.3f}"
    )
    rows = [
        (
            metric,
            number_text(entry["value"]),
            number_text(entry["limit"]),
            share_text(entry),
            entry["source"],
            "binds" if metric in result["binding"] else "",
        )
        for metric, entry in result["limits"].items()
    ]
    yield table(["metric", ">value", ">limit", ">used", "set by", ""], rows)


def share_text(entry: Mapping[str, Any]) -> str:
    """How much of a limit is used."""
    if entry["value"] is None or not entry["limit"]:
        return "-"
    return f"{entry['value'] / entry['limit']:.0%}"


def _nearest_tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    yield f"nothing is within all limits; what binds: {', '.join(result['binding']) or 'unknown'}"
    limits = result["limits"]
    rows = [
        (
            trial["number"],
            result["backbones"][trial["backbone"]],
            trial["cut"],
            trial["channels"],
            ", ".join(
                f"{metric} {number_text(trial['metrics'][metric])} > {number_text(limits[metric]['limit'])}"
                for metric in trial["violated"]
            ),
        )
        for trial in result["nearest"]
    ]
    yield "nearest misses:"
    yield table([">trial", "backbone", "cut", ">channels", "misses"], rows)
