"""Where limits come from, what feasible means, and what there is to choose from."""

from __future__ import annotations

import itertools

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privynet.device_profiles import METRICS, load_profile
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError
from privynet.exporters import write_onnx
from privynet.exporters.storage import estimate_storage_kb
from privynet.search import Limits
from privynet.search.space import Space, channel_counts, input_sizes

PI = load_profile("raspberry-pi-4b")


def test_the_user_comes_before_the_profile_and_the_default_only_where_nothing_else_is() -> None:
    limits = Limits.resolve({"latency_ms": 7.0, "macs": 1e6}, PI).by_metric
    assert (limits["latency_ms"].limit, limits["latency_ms"].source) == (7.0, "user")
    assert limits["macs"].source == "user"
    assert (limits["storage_kb"].limit, limits["storage_kb"].source) == (PI.limits["storage_kb"], "profile")
    assert (limits["r2"].limit, limits["r2"].source) == (0.5, "default")


@pytest.mark.parametrize("metric", ("psnr_db", "ssim", "r2"))
def test_any_privacy_limit_of_the_users_takes_the_defaults_place(metric: str) -> None:
    limits = Limits.resolve({metric: 0.3}, PI).by_metric
    assert [name for name in limits if METRICS[name].privacy] == [metric]


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(InputError, match="unknown metric 'speed'"):
        Limits.resolve({"speed": 1.0}, PI)


@given(st.floats(0.01, 1e9), st.floats(0, 1e9))
def test_a_value_is_feasible_exactly_up_to_its_limit(limit: float, value: float) -> None:
    limits = Limits.resolve({"macs": limit}, PI)
    assert ("macs" in limits.violated({"macs": value})) == (value > limit)
    assert limits.violations({"macs": value})["macs"] == pytest.approx((value - limit) / limit)


def test_the_binding_limit_is_the_one_that_is_used_up() -> None:
    limits = Limits.resolve({"r2": 0.5, "latency_ms": 100.0}, PI)
    assert limits.binding({"r2": 0.49, "latency_ms": 10.0}) == ["r2"]
    assert limits.binding({"r2": 0.1, "latency_ms": 30.0}) == ["latency_ms"]


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


def test_every_candidate_of_the_space_has_an_encoder() -> None:
    names = ("bundled", "timm:mobilenetv3_small_100")
    splitters = {
        (index, size): Splitter(load_backbone(parse_backbone(name), shapes_only=True), size)
        for index, (name, size) in enumerate(zip(names, (32, 64), strict=True))
    }
    space = Space(splitters)
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )
    seen = set()
    for _ in range(60):
        candidate = space.suggest(study.ask())
        costs = splitters[candidate.backbone, candidate.input_size].costs(
            candidate.cut, range(candidate.channels)
        )
        channels, height, width = space.shape(candidate)
        assert costs.payload_bytes == 4 * channels * height * width
        seen.add((candidate.backbone, candidate.policy))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "text", ("bundled", "timm:mobilenetv2_100,pad_type=same", "torchvision:mobilenet_v3_small")
)
def test_the_estimated_file_size_is_never_below_the_file(text: str, tmp_path) -> None:
    splitter = Splitter(load_backbone(parse_backbone(text, weights="random")), 64)
    cut = splitter.cuts[len(splitter.cuts) // 2]
    encoder = make_encoder(splitter, cut=cut.name, channels=range(max(1, cut.channels // 2)))
    size_kb = write_onnx(encoder, tmp_path / "encoder.onnx")["bytes"] / 1024
    assert size_kb <= estimate_storage_kb(encoder.costs) <= 1.25 * size_kb + 4
