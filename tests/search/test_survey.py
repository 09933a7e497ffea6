"""Where a search begins: what the closed forms say of the whole space, and what is tried first."""

from __future__ import annotations

import pytest

from privynet.device_profiles import load_profile
from privynet.encoders import (
    fisher_scores,
    make_encoder,
    top_channels,
)
from privynet.search import POLICIES, Limits
from privynet.search.characterisation import CutMoments
from privynet.search.constraints import cost_metrics
from privynet.search.evaluation import Judge
from privynet.search.initial_trials import MOST, initial_trials
from privynet.search.overview import overview
from privynet.search.space import Choices, Space, candidate_costs
from privynet.search.survey import Surveyed, survey

from .judging import DIGITS, SPLITTER, make_judge

PI = load_profile("raspberry-pi-5")
MACS = 8_000_000.0
LIMITS = Limits.resolve({"r2": 0.6, "macs": MACS}, PI)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return make_judge(tmp_path_factory.mktemp("survey"))


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


def test_the_survey_is_what_the_features_of_each_cut_say(judge: Judge, surveyed: list[Surveyed]) -> None:
    for point in surveyed[::9]:
        cut, splits = point.candidate.cut, judge.store.splits
        features = {
            name: make_encoder(SPLITTER, cut=cut).encode(split.images(16)) for name, split in splits.items()
        }
        labels = {name: split.labels for name, split in splits.items()}
        images = {name: split.images(DIGITS.reference_size) for name, split in splits.items()}
        moments = CutMoments.of_cut(features, labels, images, classes=10)
        kept = top_channels(
            fisher_scores(features["head-train"], labels["head-train"]), point.candidate.channels
        )
        assert point.proxies["accuracy"] == pytest.approx(moments.utility(kept), abs=0.02)
        assert point.proxies["r2"] == pytest.approx(moments.leakage(kept), abs=0.005)


def test_a_later_survey_computes_nothing(judge: Judge, surveyed: list[Surveyed]) -> None:
    before = {entry.digest: entry.last_used for entry in judge.store.cache.entries()}
    kinds = {entry.key["what"] for entry in judge.store.cache.entries()}
    assert kinds == {"moments", "closed forms"}
    assert survey(judge, LIMITS, PI) == surveyed
    assert {entry.digest for entry in judge.store.cache.entries()} == before.keys()


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
def test_what_is_tried_first_is_affordable_and_quiet_and_has_the_most_accurate(
    judge: Judge, surveyed: list[Surveyed], policies: tuple[str, ...]
) -> None:
    space = Space(judge.space.splitters, Choices(policies=policies))
    found = initial_trials(surveyed, space, LIMITS, PI, seed=0)
    assert 4 <= len(found) <= MOST and len(set(found)) == len(found)
    assert all(space.parameters(candidate) is not None for candidate in found)
    assert {candidate.policy for candidate in found} <= set(policies)
    known = {(point.candidate.cut, point.candidate.channels): point.proxies for point in surveyed}
    best = max(known[candidate.cut, candidate.channels]["accuracy"] for candidate in found)
    quiet = [point for point in surveyed if affordable(space, point) and point.proxies["r2"] <= 0.6]
    assert best == max(point.proxies["accuracy"] for point in quiet)
    for candidate in found:
        assert known[candidate.cut, candidate.channels]["r2"] <= 0.6
        assert not LIMITS.violated(cost_metrics(candidate_costs(space, candidate), PI))


def test_a_payload_that_only_few_bits_meet_has_something_to_begin_with(
    judge: Judge, surveyed: list[Surveyed]
) -> None:
    limits = Limits.resolve({"r2": 0.9, "payload_bytes": 16}, PI)
    space = Space(judge.space.splitters, Choices(policies=("fisher",), bits=(32, 2)))
    found = initial_trials(surveyed, space, limits, PI, seed=0)
    assert any(candidate.bits == 2 and candidate.channels > 1 for candidate in found)
    for candidate in found:
        assert not limits.violated(cost_metrics(candidate_costs(space, candidate), PI))


def affordable(space: Space, point: Surveyed) -> bool:
    return not LIMITS.violated(cost_metrics(candidate_costs(space, point.candidate), PI))


def test_where_nothing_is_affordable_there_is_nothing_to_begin_with(
    judge: Judge, surveyed: list[Surveyed]
) -> None:
    nothing = Limits.resolve({"macs": 1.0}, PI)
    assert initial_trials(surveyed, judge.space, nothing, PI, seed=0) == []
