"""A search's trials as its report shows them: the best that is known of each, and how it was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["costs", "estimated", "trained", "certified"]
"""How sure the figures of a trial are."""

PARAMETERS = ("backbone", "input_size", "cut", "channels", "policy", "strength", "noise", "bits")
"""What makes a candidate."""

STAGES = ("costs", "closed-form", "amortised", "trained", "certified")
"""How far a trial can come, in this order."""

_LOSSES = ("r2", "psnr_db", "ssim")
_LEVELS: Mapping[str, Level] = {
    "costs": "costs",
    "closed-form": "estimated",
    "amortised": "estimated",
    "trained": "trained",
    "certified": "certified",
}


@dataclass(frozen=True)
class Figure:
    """A value with the ends that count: of its interval, or of an estimate's error to either side."""

    value: float
    low: float
    high: float

    @classmethod
    def of_estimate(cls, estimate: Mapping[str, float]) -> Figure:
        """From {value, error}, of accuracy or r2: neither is more than 1."""
        value, error = estimate["value"], estimate["error"]
        return cls(value, value - error, max(value, min(value + error, 1.0)))

    @classmethod
    def of_score(cls, score: Mapping[str, Any]) -> Figure:
        """From {value, ci95}."""
        return cls(score["value"], *score["ci95"])

    @property
    def exact(self) -> bool:
        """Whether nothing is known of its error."""
        return self.low == self.high


@dataclass(frozen=True)
class Row:
    """One trial. ``document``: its row of the trial table; ``found``: its certification, if any."""

    document: Mapping[str, Any]
    found: Mapping[str, Any] | None
    chosen: bool

    @property
    def number(self) -> int:
        """The trial's number."""
        return int(self.document["number"])

    @property
    def stage(self) -> str:
        """One of ``STAGES``."""
        return "certified" if self.found else str(self.document["stage"])

    @property
    def level(self) -> Level:
        """How sure its figures are."""
        return _LEVELS[self.stage]

    @property
    def repeats(self) -> int | None:
        """The number of the trial that had the same candidate before."""
        number: int | None = self.document["repeats"]
        return number

    @property
    def site(self) -> tuple[int, int]:
        """(place of the backbone, input size)."""
        return self.document["backbone"], self.document["input_size"]

    @property
    def predicted(self) -> dict[str, Figure]:
        """``accuracy`` and each measure of privacy loss as the search had them, where it had any."""
        return {name: Figure.of_estimate(one) for name, one in self.document["estimates"].items()}

    @property
    def figures(self) -> dict[str, Figure]:
        """The same as certified, where they were."""
        if self.found is None:
            return self.predicted
        loss = self.found["privacy_loss"]
        losses = {name: Figure.of_score(loss[name]) for name in _LOSSES if name in loss}
        return {**losses, "accuracy": Figure.of_score(self.found["utility"])}

    @property
    def metrics(self) -> Mapping[str, float]:
        """What is held against the limits."""
        metrics: Mapping[str, float] = (self.found or self.document)["metrics"]
        return metrics

    @property
    def violated(self) -> tuple[str, ...]:
        """The metrics over their limit."""
        return tuple((self.found or self.document)["violated"])

    @property
    def selection(self) -> str:
        """How its channels are selected: ``joint 0.3``."""
        return selection_text(self.document)

    @property
    def sending(self) -> str:
        """What is done to the features before they are sent: ``noise 0.2, 8 bits``; often nothing."""
        return sending_text(self.document)

    @property
    def candidate(self) -> str:
        """The candidate in a line, without its backbone."""
        row = self.document
        sending = f", {self.sending}" if self.sending else ""
        return (
            f"{row['cut']}, {row['channels']} channels ({self.selection}), "
            f"{row['input_size']} pixels{sending}"
        )

    @property
    def seconds(self) -> float | None:
        """What its evaluation took; ``None`` where nothing was timed."""
        parts = self.document["seconds"]
        return sum(parts.values()) if parts else None

    def over(self, limits: Mapping[str, Mapping[str, Any]]) -> float:
        """The sum of its normalised violations."""
        beyond = ((self.metrics[name], limits[name]["limit"]) for name in self.violated)
        return float(sum((value - limit) / (limit or 1.0) for value, limit in beyond))


def trial_rows(result: Mapping[str, Any]) -> list[Row]:
    """Every trial of a search's result.

    A certification counts for every trial of its candidate.
    """
    found = {_key(one): one for one in result["certifications"]}
    table = result["trial_table"]
    chosen = {_key(row) for row in table if row["number"] == result.get("trial")}
    return [Row(row, found.get(_key(row)), _key(row) in chosen) for row in table]


def found_of_chosen(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The certification of the chosen candidate, ``None`` where none was chosen."""
    return next((row.found for row in trial_rows(result) if row.chosen), None)


def evaluated(rows: Iterable[Row]) -> list[Row]:
    """One row for each candidate of which more than its costs is known."""
    return [row for row in rows if row.repeats is None and {"accuracy", "r2"} <= row.figures.keys()]


def cut_order(result: Mapping[str, Any], rows: Sequence[Row]) -> dict[tuple[int, int], list[str]]:
    """The cuts of each (backbone, input size), the earliest first where the overview knows them."""
    order = {(entry["backbone"], entry["input_size"]): list(entry["cuts"]) for entry in result["overview"]}
    for row in rows:
        cuts = order.setdefault(row.site, [])
        if row.document["cut"] not in cuts:
            cuts.append(row.document["cut"])
    return order


def selection_text(document: Mapping[str, Any]) -> str:
    """The policy of a trial's row, with its strength where it has one."""
    policy, strength = document["policy"], document["strength"]
    return f"{policy} {strength:g}" if strength else str(policy)


def sending_text(document: Mapping[str, Any]) -> str:
    """What is done to the features before they are sent: ``noise 0.2, 8 bits``; often nothing."""
    noise, bits = document["noise"], document["bits"]
    parts = [f"noise {noise:g}"] if noise else []
    return ", ".join([*parts, f"{bits} bits"] if bits != 32 else parts)


def _key(document: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(document[name] for name in PARAMETERS)
