"""What there is to choose from, and what it costs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privynet.encoders import Splitter, load_backbone, parse_backbone
from privynet.errors import InputError
from privynet.search.space import (
    POLICIES,
    Candidate,
    Choices,
    Space,
    candidate_costs,
    channel_counts,
    input_sizes,
)


@given(st.integers(1, 4096))
def test_channel_counts_rise_from_one_to_all_two_to_the_octave(available: int) -> None:
    counts = channel_counts(available)
    assert counts[0] == 1 and counts[-1] == available and list(counts) == sorted(set(counts))
    assert all(b <= 2 * a for a, b in itertools.pairwise(counts))


def test_input_sizes_default_to_the_reference_or_twice_it_for_networks_trained_on_larger_images() -> None:
    assert input_sizes((), native_size=32, reference_size=32) == (32,)
    assert input_sizes((), native_size=224, reference_size=32) == (64,)
    assert input_sizes((), native_size=224, reference_size=160) == (224,)
    assert input_sizes((48, 48, 96), native_size=224, reference_size=32) == (48, 96)


def spaces() -> Space:
    names = ("bundled", "timm:mobilenetv3_small_100")
    return Space(
        {
            (index, size): Splitter(load_backbone(parse_backbone(name), shapes_only=True), size)
            for index, (name, size) in enumerate(zip(names, (32, 64), strict=True))
        },
        Choices(noises=(0.0, 0.5), bits=(32, 8, 2)),
    )


def suggested(space: Space, count: int) -> list[Candidate]:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )
    return [space.suggest(study.ask()) for _ in range(count)]


def test_every_candidate_of_the_space_has_an_encoder_of_its_payload() -> None:
    space = spaces()
    candidates = suggested(space, 80)
    for candidate in candidates:
        channels, height, width = space.shape(candidate)
        values = channels * height * width
        assert candidate_costs(space, candidate).payload_bytes == -(-values * candidate.bits // 8)
    assert {candidate.policy for candidate in candidates} == set(POLICIES)
    assert {candidate.backbone for candidate in candidates} == {0, 1}
    assert {candidate.noise for candidate in candidates} == {0.0, 0.5}


def test_a_candidates_parameters_give_it_again() -> None:
    space = spaces()
    for candidate in suggested(space, 60):
        parameters = space.parameters(candidate)
        assert parameters is not None
        assert space.suggest(optuna.trial.FixedTrial(parameters)) == candidate  # type: ignore[arg-type]
    assert space.parameters(replace(suggested(space, 1)[0], cut="nowhere")) is None
    assert space.parameters(replace(suggested(space, 1)[0], noise=0.7)) is None


@pytest.mark.parametrize(
    ("choices", "message"),
    (
        ({"policies": ("fischer",)}, "did you mean fisher"),
        ({"policies": ()}, "no policy"),
        ({"noises": (-0.1,)}, "out of range"),
        ({"bits": (16,)}, "not possible"),
    ),
)
def test_choices_out_of_range_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Choices(**choices)
