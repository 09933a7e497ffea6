"""How closely a candidate is looked at, and what is then believed of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from privynet.device_profiles import load_profile
from privynet.search import Limits
from privynet.search.characterisation import Estimate
from privynet.search.evaluation import Evaluation, Judge, TrialRecord
from privynet.search.evaluation.evaluator import AMORTISE_AFTER, LEAST_ROWS, Evaluator
from privynet.search.space import Candidate

from ..judging import make_judge

PI = load_profile("raspberry-pi-5")
WIDE = Limits.resolve({"r2": 5.0}, PI)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return make_judge(tmp_path_factory.mktemp("evaluation"))


def looked_at(judge: Judge, candidate: Candidate, records: list[TrialRecord], limits: Limits) -> Evaluation:
    return Evaluator(judge, limits).evaluate(candidate, records)


def recorded(candidate: Candidate, evaluation: Evaluation, number: int) -> TrialRecord:
    metrics = evaluation.privacy_metrics()
    return TrialRecord(number, candidate, (candidate.channels, 8, 8), metrics, (), 0.0, evaluation)


CUTS = ("blocks.0.2", "blocks.2.2", "blocks.4.2", "blocks.7.2")


@pytest.fixture(scope="module")
def first(judge: Judge) -> list[TrialRecord]:
    """As many as a calibration needs, trained because nothing is known yet."""
    records: list[TrialRecord] = []
    for cut in CUTS[:LEAST_ROWS]:
        candidate = Candidate(0, 16, cut, 8, "fisher")
        evaluation = looked_at(judge, candidate, records, WIDE)
        records.append(recorded(candidate, evaluation, len(records)))
    return records


def test_the_first_candidates_are_trained(first: list[TrialRecord]) -> None:
    assert [record.stage for record in first] == ["trained"] * LEAST_ROWS
    for record in first:
        assert record.evaluation is not None
        assert record.evaluation.utility is not None and record.evaluation.leakage is not None
        assert record.accuracy == record.evaluation.utility["value"]
        strongest = record.evaluation.leakage["strongest"]["r2"]
        assert record.estimates["r2"].value == strongest["value"]
        assert record.metrics["r2"] == pytest.approx(strongest["ci95"][1])
        assert set(record.evaluation.proxies["closed-form"]) == {"accuracy", "r2"}


def test_what_cannot_beat_the_best_is_left_at_its_closed_forms(
    judge: Judge, first: list[TrialRecord]
) -> None:
    perfect = replace(first[0], candidate=replace(first[0].candidate, channels=3), number=99)
    assert perfect.evaluation is not None
    best = {**perfect.estimates, "accuracy": Estimate(50.0, 0.0)}
    unbeatable = replace(perfect, evaluation=replace(perfect.evaluation, estimates=best, stage="closed-form"))
    found = looked_at(judge, Candidate(0, 16, "blocks.3.2", 8, "fisher"), [*first, unbeatable], WIDE)
    assert found.stage == "closed-form" and found.utility is None
    assert found.estimates["accuracy"].error > 0 and found.estimates["r2"].error > 0
    assert found.privacy_metrics()["r2"] == found.estimates["r2"].at_most


def test_what_breaks_a_limit_even_if_estimated_too_high_is_left_there(
    judge: Judge, first: list[TrialRecord]
) -> None:
    narrow = Limits.resolve({"r2": -50.0}, PI)
    found = looked_at(judge, Candidate(0, 16, "blocks.3.2", 8, "fisher"), first, narrow)
    assert found.stage == "closed-form"


def test_one_candidate_asked_for_again_and_again_calibrates_nothing(
    judge: Judge, first: list[TrialRecord]
) -> None:
    repeated = [first[0], *(replace(first[0], number=number, repeats=0) for number in range(1, 6))]
    found = looked_at(judge, Candidate(0, 16, "blocks.3.2", 8, "fisher"), repeated, WIDE)
    assert found.stage == "trained"


def test_few_cuts_say_nothing_of_another_one(judge: Judge, first: list[TrialRecord]) -> None:
    counts = (2, 4, 12, 16)
    one_cut = [
        replace(first[0], number=number, candidate=replace(first[0].candidate, channels=count))
        for number, count in enumerate(counts)
    ]
    found = looked_at(judge, Candidate(0, 16, "blocks.3.2", 8, "fisher"), one_cut, WIDE)
    assert found.stage == "trained"


def test_of_a_secret_selection_only_coarse_figures_may_be_known(first: list[TrialRecord]) -> None:
    evaluation = first[0].evaluation
    assert evaluation is not None
    told = evaluation.without_secrets()
    assert told.stage == "trained" and told.proxies == {} and told.utility is None and told.leakage is None
    for name, estimate in told.estimates.items():
        assert round(estimate.value, 2) == estimate.value
        assert estimate.at_least <= evaluation.estimates[name].value <= estimate.at_most
    exact = {name: Estimate(0.123456, 0.023456) for name in ("accuracy", "r2")}
    assert replace(evaluation, estimates=exact).without_secrets().estimates["r2"] == Estimate(0.12, 0.02)


def test_what_may_be_the_best_is_trained(judge: Judge, first: list[TrialRecord]) -> None:
    modest = [
        replace(record, evaluation=replace(record.evaluation, stage="trained"))
        for record in first  # type: ignore[type-var]
    ]
    found = looked_at(judge, Candidate(0, 16, "blocks.4.2", 32, "fisher"), modest, WIDE)
    assert found.stage == "trained"


def test_other_kinds_of_selection_are_calibrated_by_themselves(
    judge: Judge, first: list[TrialRecord]
) -> None:
    found = looked_at(judge, Candidate(0, 16, "blocks.2.2", 4, "projection", 4.0), first, WIDE)
    assert found.stage == "trained"


def test_what_would_be_trained_adversarially_is_not_where_its_start_is_hopeless(tmp_path: Path) -> None:
    judge = make_judge(tmp_path)
    records = []
    for number, cut in enumerate(("blocks.1.2", "blocks.3.2", "blocks.5.2", "blocks.6.2")):
        candidate = Candidate(0, 16, cut, 4, "adversarial", 2.0)
        proxies = {"closed-form": {"accuracy": 0.2 + 0.1 * number, "r2": 0.5 + 0.02 * number}}
        estimates = {
            "accuracy": Estimate(0.2 + 0.1 * number, 0.0),
            **dict.fromkeys(("psnr_db", "ssim"), Estimate(0.5, 0.0)),
            "r2": Estimate(0.5 + 0.02 * number, 0.0),
        }
        records.append(recorded(candidate, Evaluation("trained", estimates, proxies, {}), number))
    narrow = Limits.resolve({"r2": -50.0}, PI)
    candidate = Candidate(0, 16, "blocks.4.2", 4, "adversarial", 2.0)
    found = looked_at(judge, candidate, records, narrow)
    assert found.stage == "closed-form"
    start = judge.closed_forms(replace(candidate, policy="projection", strength=4.0))
    assert found.proxies["closed-form"] == start
    # Neither was anything trained, nor are there features of a cut that nobody needs.
    assert len(list((tmp_path / "matrices").iterdir())) == 1
    assert {entry.key["what"] for entry in judge.store.cache.entries()} == {"moments", "covariances"}


def test_a_cut_that_is_looked_at_often_has_its_amortised_networks(
    judge: Judge, first: list[TrialRecord]
) -> None:
    records = list(first)
    counts = (2, 4, 12)[:AMORTISE_AFTER]
    for count in counts:
        candidate = Candidate(0, 16, "blocks.2.2", count, "fisher")
        evaluation = replace(looked_at(judge, candidate, [], WIDE), stage="trained")
        records.append(recorded(candidate, evaluation, len(records)))
    found = looked_at(judge, Candidate(0, 16, "blocks.2.2", 16, "fisher"), records, WIDE)
    assert found.stage in ("amortised", "trained")
    assert set(found.proxies["amortised"]) == {"accuracy", "r2"}
