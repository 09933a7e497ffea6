"""Where a search begins: what the closed forms say of the whole space, and what is tried first."""

from __future__ import annotations

from pathlib import Path

import pytest

from privynet.data import open_data
from privynet.device_profiles import load_profile
from privynet.encoders import Splitter, load_backbone, parse_backbone
from privynet.search import POLICIES, Limits
from privynet.search.characterisation import Cache, FeatureStore
from privynet.search.constraints import cost_metrics
from privynet.search.evaluation import Budget, Judge, search_splits
from privynet.search.overview import overview
from privynet.search.space import Candidate, Choices, Space, candidate_costs
from privynet.search.survey import OPENINGS, Surveyed, openings, survey

DIGITS = open_data("digits")
BUDGET = Budget(train_images=300, attack_pairs=150, attack_s=0.5, select_images=100, attack_val_images=50)
PI = load_profile("raspberry-pi-5")
MACS = 8_000_000.0
LIMITS = Limits.resolve({"r2": 0.6, "macs": MACS}, PI)
SPLITTER = Splitter(load_backbone(parse_backbone("bundled")), 16)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    folder: Path = tmp_path_factory.mktemp("survey")
    return Judge(
        Space({(0, 16): SPLITTER}),
        FeatureStore(Cache(folder / "cache"), search_splits(DIGITS, BUDGET), DIGITS, accelerator="cpu"),
        budget=BUDGET,
        secret=bytes(32),
        seed=0,
        accelerator="cpu",
        matrices=folder / "matrices",
    )


@pytest.fixture(scope="module")
def surveyed(judge: Judge) -> list[Surveyed]:
    return survey(judge, LIMITS, PI)


def test_the_survey_leaves_out_cuts_that_break_a_limit_of_cost(
    judge: Judge, surveyed: list[Surveyed]
) -> None:
    affordable = {cut.name for cut in SPLITTER.cuts if SPLITTER.costs(cut.name, [0]).macs <= MACS}
    assert {point.candidate.cut for point in surveyed} == affordable
    assert len(affordable) < len(SPLITTER.cuts)
    assert {entry.key["cut"] for entry in judge.store.cache.entries()} == affordable


def test_the_survey_is_what_the_judge_says_of_each_point(judge: Judge, surveyed: list[Surveyed]) -> None:
    for point in surveyed[::7]:
        assert point.proxies == judge.closed_forms(point.candidate)


def test_the_overview_shows_the_survey(judge: Judge, surveyed: list[Surveyed]) -> None:
    (entry,) = overview(surveyed, judge.space, [])
    assert not entry["calibrated"]
    for point in surveyed:
        row, column = (
            entry["cuts"].index(point.candidate.cut),
            entry["counts"].index(point.candidate.channels),
        )
        assert entry["r2"][row][column] == point.proxies["r2"]


@pytest.mark.parametrize("policies", (("fisher",), tuple(POLICIES)))
def test_openings_are_affordable_and_quiet_and_have_the_most_accurate_among_them(
    judge: Judge, surveyed: list[Surveyed], policies: tuple[str, ...]
) -> None:
    space = Space(judge.space.splitters, Choices(policies=policies))
    first = openings(surveyed, space, LIMITS, PI)
    assert 4 <= len(first) <= OPENINGS
    found = [suggested(space, parameters) for parameters in first]
    assert len(set(found)) == len(found)
    assert {candidate.policy for candidate in found} <= set(policies)
    known = {(point.candidate.cut, point.candidate.channels): point.proxies for point in surveyed}
    best = max(found, key=lambda candidate: known[candidate.cut, candidate.channels]["accuracy"])
    inside = [point for point in surveyed if affordable(space, point) and point.proxies["r2"] <= 0.6]
    assert known[best.cut, best.channels]["accuracy"] == max(point.proxies["accuracy"] for point in inside)
    for candidate in found:
        assert known[candidate.cut, candidate.channels]["r2"] <= 0.6
        assert not LIMITS.violated(cost_metrics(candidate_costs(space, candidate), PI))


def affordable(space: Space, point: Surveyed) -> bool:
    return not LIMITS.violated(cost_metrics(candidate_costs(space, point.candidate), PI))


def suggested(space: Space, parameters: dict[str, object]) -> Candidate:
    import optuna

    return space.suggest(optuna.trial.FixedTrial(dict(parameters)))


def test_where_nothing_is_affordable_there_is_nothing_to_begin_with(
    judge: Judge, surveyed: list[Surveyed]
) -> None:
    nothing = Limits.resolve({"macs": 1.0}, PI)
    assert openings(surveyed, judge.space, nothing, PI) == []
