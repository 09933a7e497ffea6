"""How what is sent is chosen, on digits and the closed forms of one cut."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privynet.data import open_data
from privynet.defences import ChannelScatter, channel_scatter
from privynet.encoders import Splitter, fisher_scores, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError
from privynet.search.characterisation.moments import CutMoments
from privynet.search.space.policies import POLICIES, CutView, Policy, select

SPLITS = {"head-train": 400, "select": 200, "attack-train": 300, "attack-val": 60}


@dataclass(frozen=True)
class DigitsView:
    """A ``CutView`` of a few channels of the bundled backbone."""

    features: dict[str, NDArray[np.float32]]
    labels: dict[str, NDArray[np.int64]]
    images: dict[str, NDArray[np.uint8]]
    moments: CutMoments
    secret: bytes = bytes(32)
    purpose: str = "bundled 16 blocks.2.2"
    seed: int = 0

    @property
    def channels(self) -> int:
        return self.features["select"].shape[1]

    @property
    def fisher(self) -> NDArray[np.float64]:
        return fisher_scores(self.features["head-train"], self.labels["head-train"])

    @property
    def leakage_alone(self) -> NDArray[np.float64]:
        return np.array([self.leakage([channel]) for channel in range(self.channels)])

    accelerator = "cpu"

    def utility(self, selection: Any) -> float:
        return self.moments.utility(selection)

    def leakage(self, selection: Any) -> float:
        return self.moments.leakage(selection)

    @cached_property
    def scatter(self) -> ChannelScatter:
        return channel_scatter(*self.examples())

    def examples(self) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint8]]:
        return self.features["head-train"], self.labels["head-train"], self.images["head-train"]


@pytest.fixture(scope="module")
def view() -> DigitsView:
    digits = open_data("digits")
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 16)
    encoder = make_encoder(splitter, cut="blocks.2.2", channels=range(0, 48, 4))
    splits = {name: digits.split(name, limit=limit) for name, limit in SPLITS.items()}
    features = {name: encoder.encode(split.images(16)) for name, split in splits.items()}
    labels = {name: split.labels for name, split in splits.items()}
    images = {name: split.images(digits.reference_size) for name, split in splits.items()}
    moments = CutMoments.of_cut(features, labels, images, classes=10)
    return DigitsView(features, labels, images, moments)


def chosen(policy: str, view: CutView, count: int, **parameters: float) -> tuple[int, ...]:
    selection = select(policy, parameters, view, count)
    assert isinstance(selection, tuple)
    return selection


@pytest.mark.parametrize("policy", [policy for policy in POLICIES.values() if not policy.mixes])
@pytest.mark.parametrize("count", [1, 5, 12])
def test_a_channel_policy_keeps_as_many_as_asked_for_in_order(
    view: DigitsView, policy: Policy, count: int
) -> None:
    kept = chosen(policy.name, view, count)
    assert len(set(kept)) == count and list(kept) == sorted(kept)
    assert set(kept) <= set(range(12)) and all(isinstance(channel, int) for channel in kept)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_secret_decides_only_where_a_policy_says_so(view: DigitsView, policy: str) -> None:
    if POLICIES[policy].mixes:
        assert not POLICIES[policy].secret
        return
    found = {chosen(policy, replace(view, secret=bytes([drawn]) * 32), 4) for drawn in range(4)}
    assert (len(found) > 1) == POLICIES[policy].secret


def test_fisher_keeps_the_best_scores(view: DigitsView) -> None:
    kept = chosen("fisher", view, 4)
    others = set(range(12)) - set(kept)
    assert min(view.fisher[list(kept)]) >= max(view.fisher[list(others)])


def test_leak_prune_never_keeps_what_leaks_most(view: DigitsView) -> None:
    worst = set(np.argsort(-view.leakage_alone)[:6].tolist())
    quiet = sorted(set(range(12)) - worst, key=lambda channel: -view.fisher[channel])
    for drawn in range(5):
        kept = chosen("leak-prune", replace(view, secret=bytes([drawn]) * 32), 2, pruned=0.5)
        assert set(kept) <= set(quiet[:3])
    # what is pruned always leaves something to draw from
    least = set(np.argsort(view.leakage_alone)[:8].tolist())
    drawn = {chosen("leak-prune", replace(view, secret=bytes([n]) * 32), 6, pruned=0.9) for n in range(5)}
    assert len(drawn) > 1 and all(set(kept) <= least for kept in drawn)


@pytest.mark.parametrize("weight", [0.1, 3.0])
def test_joint_is_close_to_the_best_of_all_subsets(view: DigitsView, weight: float) -> None:
    def worth(kept: tuple[int, ...]) -> float:
        return view.utility(kept) - weight * view.leakage(kept)

    every = sorted(worth(kept) for kept in itertools.combinations(range(12), 3))
    assert worth(chosen("joint", view, 3, weight=weight)) >= every[int(0.9 * len(every))]
    best = max(range(12), key=lambda channel: worth((channel,)))
    assert chosen("joint", view, 1, weight=weight) == (best,)


def test_joint_leaks_less_where_leakage_weighs_more(view: DigitsView) -> None:
    careless, careful = (chosen("joint", view, 4, weight=weight) for weight in (0.03, 30.0))
    assert view.leakage(careful) < view.leakage(careless)
    assert view.utility(careful) < view.utility(careless)


def test_projections_mix_all_channels(view: DigitsView) -> None:
    matrix = select("projection", {}, view, 3)
    assert isinstance(matrix, np.ndarray) and matrix.shape == (3, 12) and matrix.dtype == np.float32
    assert view.leakage(matrix) < view.leakage(chosen("fisher", view, 3))
    careless = select("projection", {"weight": 0.1}, view, 3)
    assert view.leakage(matrix) < view.leakage(careless)


def test_the_adversarial_projection_is_trained_from_there(view: DigitsView) -> None:
    few = replace(
        view,
        features={"head-train": view.features["head-train"][:100], "select": view.features["select"]},
        labels={"head-train": view.labels["head-train"][:100]},
        images={"head-train": view.images["head-train"][:100]},
    )
    matrix = select("adversarial", {"seconds": 1.0}, few, 2)
    assert isinstance(matrix, np.ndarray) and matrix.shape == (2, 12) and matrix.dtype == np.float32
    start = select("projection", {}, few, 2)
    assert np.abs(matrix - start).max() > 1e-3


@pytest.mark.parametrize("policy", POLICIES)
def test_with_all_channels_there_is_nothing_to_choose(view: DigitsView, policy: str) -> None:
    assert select(policy, {}, view, 12) == tuple(range(12))


def test_what_cannot_be_is_refused(view: DigitsView) -> None:
    with pytest.raises(InputError, match="unknown policy 'fischer'; did you mean fisher"):
        select("fischer", {}, view, 3)
    with pytest.raises(InputError, match="unknown parameter of leak-prune 'share'"):
        select("leak-prune", {"share": 0.5}, view, 3)
    with pytest.raises(InputError, match=r"pruned 0\.95 of leak-prune is out of range; allowed: 0 to 0\.9"):
        select("leak-prune", {"pruned": 0.95}, view, 3)
    with pytest.raises(InputError, match="weight nan of joint"):
        select("joint", {"weight": float("nan")}, view, 3)
    for count in (0, 13):
        with pytest.raises(InputError, match=f"{count} of 12 channels"):
            select("fisher", {}, view, count)
