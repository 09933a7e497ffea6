"""What is known of a candidate and of a finished trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ...device_profiles import METRICS
from ..characterisation import Estimate
from ..space import Candidate

Stage = Literal["costs", "closed-form", "amortised", "trained"]
"""How closely a candidate was looked at: its costs alone, or the step that its estimates come from."""

ACCURACY = "accuracy"
_COARSE = 0.01
PRIVACY_METRICS = tuple(metric for metric in METRICS if METRICS[metric].privacy)


@dataclass(frozen=True)
class Evaluation:
    """What is known of a candidate beside its costs.

    ``estimates``: of the accuracy and of each measure of privacy loss; after training, of accuracy the value
    alone, and of privacy loss its interval's upper end over the images.
    ``proxies``: what the cheap steps gave, not calibrated: {step: {accuracy, r2}}. ``utility`` and
    ``leakage``: the documents of the head and the attack that were trained, ``None`` where none were.
    """

    stage: Stage
    estimates: Mapping[str, Estimate]
    proxies: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    utility: Mapping[str, Any] | None = field(default=None, repr=False)
    leakage: Mapping[str, Any] | None = field(default=None, repr=False)

    def privacy_metrics(self) -> dict[str, float]:
        """Each measure at the upper end of its estimate: what is held against the limits."""
        return {name: self.estimates[name].at_most for name in PRIVACY_METRICS if name in self.estimates}

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def without_secrets(self) -> Evaluation:
        """What may be known of a selection that is secret. Closed forms are the same for all, and so are
        networks trained with a known seed, nearly: whoever has backbone and data could find a few channels by
        exact figures, so only coarse ones are left."""
        coarse = {
            name: Estimate(round(estimate.value, 2), max(_COARSE / 2, round(estimate.error, 2)))
            for name, estimate in self.estimates.items()
        }
        return replace(self, proxies={}, estimates=coarse, utility=None, leakage=None)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Evaluation:
        """From what ``document`` gave."""
        estimates = {name: Estimate(**values) for name, values in document["estimates"].items()}
        return cls(**{**document, "estimates": estimates})


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial. ``evaluation`` is ``None`` where its costs alone ended it.

    ``metrics``: the costs, and privacy loss at its upper end. ``violation``: the sum of all normalised
    violations.
    """

    number: int
    candidate: Candidate
    shape: tuple[int, int, int]
    metrics: Mapping[str, float]
    violated: tuple[str, ...]
    violation: float
    evaluation: Evaluation | None = None
    repeats: int | None = None
    """The number of the trial that had the same candidate before."""

    @property
    def evaluated(self) -> bool:
        """Whether more than its costs is known."""
        return self.evaluation is not None

    @property
    def trained(self) -> bool:
        """Whether networks were trained for it alone."""
        return self.evaluation is not None and self.evaluation.stage == "trained"

    @property
    def stage(self) -> Stage:
        """How closely it was looked at."""
        return self.evaluation.stage if self.evaluation else "costs"

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """Accuracy and privacy loss; empty where the costs alone are known."""
        return self.evaluation.estimates if self.evaluation else {}

    @property
    def accuracy(self) -> float:
        """The most likely accuracy; 0 where only costs are known."""
        return self.estimates[ACCURACY].value if self.evaluation else 0.0

    @property
    def feasible(self) -> bool:
        """Evaluated, and inside every limit."""
        return self.evaluated and not self.violated

    def document(self) -> dict[str, Any]:
        """The row of the trial table."""
        evaluation = self.evaluation
        return {
            "number": self.number,
            "state": "evaluated" if evaluation else "pruned",
            "stage": self.stage,
            **self.candidate.document(),
            "shape": list(self.shape),
            "metrics": dict(self.metrics),
            "estimates": {name: asdict(estimate) for name, estimate in self.estimates.items()},
            "utility": evaluation.utility if evaluation else None,
            "feasible": self.feasible,
            "violated": list(self.violated),
            "seconds": dict(evaluation.seconds) if evaluation else {},
            "repeats": self.repeats,
        }


def distinct(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """One record for each candidate: the first."""
    found: dict[Candidate, TrialRecord] = {}
    for record in records:
        found.setdefault(record.candidate, record)
    return list(found.values())
