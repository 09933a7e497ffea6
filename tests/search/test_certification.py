"""The last look at the best candidates: what was not seen in a trial is seen then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from privynet.artifacts import OrtEncoder, RunFolder
from privynet.data import open_data
from privynet.device_profiles import load_profile
from privynet.encoders import Backbone, EncoderSpec, Splitter, load_backbone, parse_backbone
from privynet.search import Limits
from privynet.search.candidates import Budget, Judge, search_splits
from privynet.search.certification import Outcome, certify
from privynet.search.features import FeatureStore
from privynet.search.limits import cost_metrics
from privynet.search.result import result_document
from privynet.search.space import Candidate, Space
from privynet.search.study import TrialRecord

PI = load_profile("raspberry-pi-5")
DIGITS = open_data("digits")
LIMITS = Limits.resolve({"r2": 0.6}, PI)
BUDGET = Budget(train_images=100, attack_pairs=150, attack_s=0.5, select_images=60, attack_val_images=50)
SIZE = 16
PLAIN = Splitter(load_backbone(parse_backbone("bundled")), SIZE)


def judge_of(splitter: Splitter, run: RunFolder) -> Judge:
    store = FeatureStore(run.cache, search_splits(DIGITS, BUDGET), DIGITS, accelerator="cpu")
    space = Space({(0, SIZE): splitter})
    return Judge(space, store, budget=BUDGET, secret=bytes(32), seed=0, accelerator="cpu")


def record_of(splitter: Splitter, number: int, cut: str, channels: int, accuracy: float) -> TrialRecord:
    """A trial whose short attack recovered nothing."""
    candidate = Candidate(0, SIZE, cut, channels, "fisher")
    metrics = {**cost_metrics(splitter.costs(cut, range(channels)), PI), "r2": 0.0}
    utility = {"value": accuracy, "ci95": [accuracy, accuracy], "n": 60}
    _, height, width = splitter.cut(cut).shape
    return TrialRecord(
        number, candidate, (channels, height, width), metrics, utility, None, (), 0.0, {"attack": 1.0}
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder.create(tmp_path_factory.mktemp("certification") / "run", {})


LEAKS = record_of(PLAIN, 0, "blocks.0.2", 32, accuracy=0.9)
HOLDS = record_of(PLAIN, 1, "pool", 1, accuracy=0.5)


@pytest.fixture(scope="module")
def outcome(run: RunFolder) -> Outcome:
    return certify(run, [LEAKS, HOLDS], judge_of(PLAIN, run), PI, LIMITS, images=True)


def test_the_best_that_still_holds_is_chosen_and_the_others_come_back_as_measured(
    run: RunFolder, outcome: Outcome
) -> None:
    assert outcome.chosen is not None and outcome.chosen.record.candidate == HOLDS.candidate
    (rejected,) = outcome.rejected
    assert rejected.candidate == LEAKS.candidate and rejected.violated == ("r2",)
    assert rejected.metrics["r2"] > 0.6 and not rejected.feasible
    assert rejected.violation == pytest.approx((rejected.metrics["r2"] - 0.6) / 0.6)
    spec = EncoderSpec.read(run.spec)
    assert spec == outcome.chosen.encoder.spec and spec.cut == "pool"
    assert OrtEncoder.open(run.export).feature_shape == (1, 1, 1)
    assert outcome.chosen.metrics["storage_kb"] == run.export.stat().st_size / 1024
    assert run.images.exists()
    assert not [path for path in run.path.rglob(".*") if path.is_file()]
    assert not (run.cache / "exported").exists()


def test_what_was_attacked_is_not_attacked_again(run: RunFolder, outcome: Outcome) -> None:
    assert outcome.chosen is not None
    for left in (run.export, run.spec, run.images):
        left.unlink()
    again = certify(run, [LEAKS, HOLDS], judge_of(PLAIN, run), PI, LIMITS, images=True)
    assert again.chosen is not None
    # The seconds of the fit are in it: another attack would have others.
    assert again.chosen.leakage == outcome.chosen.leakage
    assert again.chosen.encoder.digest == outcome.chosen.encoder.digest
    assert [record.metrics for record in again.rejected] == [record.metrics for record in outcome.rejected]
    assert run.export.exists() and run.images.exists() and EncoderSpec.read(run.spec).cut == "pool"


def test_where_none_holds_nothing_is_left_under_a_final_name(run: RunFolder, outcome: Outcome) -> None:
    none = certify(run, [LEAKS], judge_of(PLAIN, run), PI, LIMITS, images=True)
    assert none.chosen is None and [record.candidate for record in none.rejected] == [LEAKS.candidate]
    assert not run.export.exists() and not run.spec.exists() and not run.images.exists()


class Loud(nn.Module):
    """Gives the image itself, a million times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.conv.weight.data = 1e6 * torch.eye(3).view(3, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return x.flatten(1)


def test_features_too_large_for_the_cache_are_warned_of_and_attacked_as_they_are(tmp_path: Path) -> None:
    name = parse_backbone("timm:resnet18", mean="0", std="1")
    backbone = Backbone(name, Loud().eval().requires_grad_(False), (0.0,) * 3, (1.0,) * 3, SIZE, "0" * 64)
    splitter = Splitter(backbone, SIZE)
    run = RunFolder.create(tmp_path / "run", {})
    judge = judge_of(splitter, run)
    with pytest.warns(UserWarning, match="features of conv reach 1e.06; trials see them clipped at 65504"):
        clipped = judge.store.features(splitter, "conv", "select")
    assert np.isfinite(clipped).all() and clipped.max() == 65504
    silent = record_of(splitter, 0, "conv", 3, accuracy=0.9)
    outcome = certify(run, [silent], judge, PI, LIMITS, images=False)
    assert outcome.chosen is None and outcome.rejected[0].metrics["r2"] > 0.9


def documents(outcome: Outcome, records: list[TrialRecord]) -> dict[str, object]:
    return result_document(
        records,
        LIMITS,
        outcome=outcome,
        device=PI,
        backbones=["bundled:plain8"],
        data=DIGITS,
        seconds=1.0,
        seed=0,
        inputs={},
    )


def test_the_result_says_of_each_candidate_what_was_found_last(outcome: Outcome) -> None:
    third = record_of(PLAIN, 2, "pool", 2, accuracy=0.4)
    result = documents(outcome, [LEAKS, HOLDS, third])
    assert [row["number"] for row in result["runners_up"]] == [2]  # type: ignore[attr-defined]
    assert result["trials"]["certified"] == 1 and result["trials"]["rejected"] == 1  # type: ignore[index]


def test_with_nothing_left_the_rejected_are_among_the_nearest_as_measured(
    outcome: Outcome,
) -> None:
    far = replace(HOLDS, utility=None, violated=("macs",), violation=50.0)
    result = documents(Outcome(None, outcome.rejected), [LEAKS, far])
    assert result["trials"]["certified"] == 0 and result["encoder"] is None  # type: ignore[index]
    nearest = result["nearest"]
    assert isinstance(nearest, list) and [row["number"] for row in nearest] == [0, 1]
    assert nearest[0]["violated"] == ["r2"] and nearest[0]["metrics"]["r2"] > 0.6
