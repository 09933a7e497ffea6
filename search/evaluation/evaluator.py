"""Looking at a candidate step by step, each dearer and surer than the last, and no further than it is worth.

Closed forms from the cut's moments come first, then the amortised networks of the cut, and only then
networks trained for the candidate alone. What a cheap step gives is calibrated on the candidates that went
all the way, and counts with the error of that calibration: privacy loss is held against its limit at the
upper end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from ...progress import SILENT, Progress
from ..characterisation import Calibration, Estimate
from ..constraints import Limits
from ..space import POLICIES, Candidate
from .judge import Judge
from .records import ACCURACY, PRIVACY_METRICS, Evaluation, TrialRecord, distinct

LEAST_ROWS = 4
"""Fewer trained candidates of a kind calibrate nothing: the first ones are all trained."""
LEAST_SITES = 3
AMORTISE_AFTER = 3
"""When so many candidates of a cut were trained, its amortised networks pay: they cost as much."""


class Evaluator:
    """Evaluates candidates against limits, with what earlier trials have taught."""

    def __init__(self, judge: Judge, limits: Limits) -> None:
        self._judge, self._limits = judge, limits
        self._closed_forms: dict[Candidate, Mapping[str, float]] = {}
        self._amortised: dict[Candidate, Mapping[str, float]] = {}

    def evaluate(
        self,
        candidate: Candidate,
        records: Sequence[TrialRecord],
        *,
        progress: Progress = SILENT,
    ) -> Evaluation:
        """As far as the candidate is worth it. ``records``: the finished trials, of all processes."""
        seconds: dict[str, float] = {}
        proxies: dict[str, Mapping[str, float]] = {}
        trained = [record for record in distinct(records) if record.trained]
        best = max((record.accuracy for record in records if record.feasible), default=0.0)

        def timed(step: str, started: float) -> None:
            seconds[step] = round(time.perf_counter() - started, 3)

        started = time.perf_counter()
        proxies["closed-form"] = self._judge.closed_forms(candidate, progress=progress)
        timed("closed-form", started)
        self._closed_forms[candidate] = proxies["closed-form"]
        estimates = closed_form_estimates(candidate, proxies["closed-form"], trained, self._closed_forms)
        if estimates is not None and self._hopeless(estimates, best):
            return Evaluation("closed-form", estimates, proxies, seconds)
        if estimates is not None and self._amortise(candidate, trained):
            started = time.perf_counter()
            proxies["amortised"] = self._judge.amortised(candidate, progress=progress)
            timed("amortised", started)
            rows = self._amortised_rows(candidate, trained, progress)
            refined = calibrated(candidate, proxies["amortised"], rows)
            if refined is not None and self._hopeless(refined, best):
                return Evaluation("amortised", refined, proxies, seconds)
        started = time.perf_counter()
        sending = self._judge.sending(candidate, progress=progress)
        timed("selection", started)
        judgement = self._judge.judge(candidate, sending, progress=progress)
        leakage = judgement.leakage.document()
        strongest = leakage["strongest"]
        estimates = {ACCURACY: Estimate(judgement.utility.value, 0.0)}
        for metric in PRIVACY_METRICS:
            if metric in strongest:
                # What is certified is held against the limit at the interval's upper end, too.
                value, (_, high) = strongest[metric]["value"], strongest[metric]["ci95"]
                estimates[metric] = Estimate(value, max(0.0, high - value))
        return Evaluation(
            "trained",
            estimates,
            proxies,
            {**seconds, **judgement.seconds},
            judgement.utility.document(),
            leakage,
        )

    def _hopeless(self, estimates: Mapping[str, Estimate], best: float) -> bool:
        """Whether it breaks a limit or cannot beat the best so far, even if estimates err in its favour."""
        lows = {metric: estimates[metric].at_least for metric in PRIVACY_METRICS if metric in estimates}
        return bool(self._limits.violated(lows)) or estimates[ACCURACY].at_most < best

    def _amortise(self, candidate: Candidate, trained: Iterable[TrialRecord]) -> bool:
        """Whether the amortised networks know such candidates, and the cut is looked at often enough."""
        if not _can_be_amortised(candidate):
            return False
        return sum(record.candidate.site == candidate.site for record in trained) >= AMORTISE_AFTER

    def _amortised_rows(
        self, candidate: Candidate, trained: Sequence[TrialRecord], progress: Progress
    ) -> list[tuple[Mapping[str, float], TrialRecord]]:
        rows = []
        for record in trained:
            other = record.candidate
            if not (_alike(record, candidate) and self._amortise(other, trained)):
                continue
            if POLICIES[other.policy].secret and other not in self._closed_forms:
                continue  # another process may have kept other channels
            if other not in self._amortised:
                self._amortised[other] = self._judge.amortised(other, progress=progress)
            rows.append((self._amortised[other], record))
        return rows


def closed_form_estimates(
    candidate: Candidate,
    proxies: Mapping[str, float],
    trained: Iterable[TrialRecord],
    own: Mapping[Candidate, Mapping[str, float]],
) -> dict[str, Estimate] | None:
    """What the closed forms of a candidate say; ``None`` where too few like it were trained.

    ``own``: the proxies of candidates that this process has looked at: those of secret selections are known
    nowhere else.
    """
    rows = []
    for record in trained:
        known = own.get(record.candidate) or _proxies(record, "closed-form")
        if known and _alike(record, candidate):
            rows.append((known, record))
    return calibrated(candidate, proxies, rows)


def calibrated(
    candidate: Candidate,
    proxies: Mapping[str, float],
    rows: Sequence[tuple[Mapping[str, float], TrialRecord]],
) -> dict[str, Estimate] | None:
    """Accuracy and privacy loss from a candidate's proxies; ``None`` where too little is known.

    ``rows``: the proxies of trained candidates, with what was found of them. Fewer than three cuts say
    nothing of the error at another one.
    """
    sites = {record.candidate.site for _, record in rows}
    if len(rows) < LEAST_ROWS or (candidate.site not in sites and len(sites) < LEAST_SITES):
        return None
    estimates = {}
    for metric in (ACCURACY, *PRIVACY_METRICS):
        proxy = ACCURACY if metric == ACCURACY else "r2"
        known = [(row[proxy], record.estimates[metric].value) for row, record in rows]
        groups = [record.candidate.site for _, record in rows]
        calibration = Calibration.fit(known, metric=metric, groups=groups)
        estimates[metric] = calibration.predict(proxies[proxy])
    return estimates


def _proxies(record: TrialRecord, step: str) -> Mapping[str, float]:
    return record.evaluation.proxies.get(step, {}) if record.evaluation else {}


def _alike(record: TrialRecord, candidate: Candidate) -> bool:
    """Whether proxies of the one say something of the other: the same kind of selection from one backbone."""
    other = record.candidate
    return (other.backbone, other.kind) == (candidate.backbone, candidate.kind)


def _can_be_amortised(candidate: Candidate) -> bool:
    return candidate.kind == "kept" and not candidate.noise and candidate.bits >= 8
