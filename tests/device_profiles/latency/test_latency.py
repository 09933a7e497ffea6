from __future__ import annotations

import csv
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from privynet.device_profiles import DeviceProfile, LatencyPrediction, catalogue, load_profile
from privynet.device_profiles.profiles.figures import Spread
from privynet.encoders import Convolution, Costs, Kernel, KernelKind, module_costs
from privynet.errors import InputError

TABLE = Path(__file__).parents[3] / "benchmarks" / "ncnn_latency.csv"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "squeezenet": torchvision.models.squeezenet1_1,
    "mobilenet_v2": torchvision.models.mobilenet_v2,
    "resnet18": torchvision.models.resnet18,
    "vgg16": torchvision.models.vgg16,
    "resnet50": torchvision.models.resnet50,
}


def convolved(kind: KernelKind, *, channels: tuple[int, int], size: int) -> Kernel:
    """A convolution that keeps the size, or for ``conv`` halves it."""
    window = (1, 1) if kind == "pointwise" else (3, 3)
    groups = {"depthwise": channels[0], "grouped": 2}.get(kind, 1)
    stride, before = ((2, 2), 2 * size) if kind == "conv" else ((1, 1), size)
    shape = Convolution(*channels, groups, window, stride, size, size)
    elements = channels[0] * before**2, channels[1] * size**2
    return Kernel(kind, shape.macs, channels[0] * channels[1], *elements, convolution=shape)


counts = st.integers(min_value=0, max_value=10**9)
sizes = st.integers(min_value=1, max_value=100)
widths = st.integers(min_value=1, max_value=200).map(lambda half: 2 * half)
convolutions = st.builds(
    lambda kind, inputs, outputs, size: convolved(
        kind, channels=(inputs, inputs if kind == "depthwise" else outputs), size=size
    ),
    st.sampled_from(("conv3x3s1", "conv", "pointwise", "depthwise", "grouped")),
    widths,
    widths,
    sizes,
)
others = st.builds(Kernel, st.sampled_from(("linear", "pool", "elementwise", "move", "image")), *[counts] * 4)
kernels = st.lists(convolutions | others, min_size=1, max_size=6)
profiles = st.sampled_from(catalogue())


def model_factor(profile: DeviceProfile) -> Spread:
    return profile.latency.table(threads=profile.threads).model_factor


def runtime_factor(profile: DeviceProfile) -> float:
    assert profile.latency.runtime_factor is not None
    return profile.latency.runtime_factor.value


def costs_of(kernel_list: list[Kernel]) -> Costs:
    return Costs(sum(k.macs for k in kernel_list), 1.0, 1.0, 1, tuple(kernel_list))


@functools.cache
def network_costs(name: str, input_size: int) -> Costs:
    with torch.device("meta"):
        return module_costs(NETWORKS[name](), input_size)


def not_less(more: LatencyPrediction, less: LatencyPrediction) -> bool:
    slack = 1 - 1e-12
    return more.ms >= less.ms * slack and more.low >= less.low * slack and more.high >= less.high * slack


@settings(deadline=None)
@given(profiles, kernels, kernels)
def test_more_work_never_takes_less_time(
    profile: DeviceProfile, before: list[Kernel], extra: list[Kernel]
) -> None:
    after = costs_of([*before, *extra])
    assert not_less(profile.predict_latency_ms(after), profile.predict_latency_ms(costs_of(before)))


@settings(deadline=None)
@given(profiles, kernels)
def test_more_convolution_takes_more_time(profile: DeviceProfile, before: list[Kernel]) -> None:
    kinds: tuple[KernelKind, ...] = ("conv3x3s1", "conv", "pointwise", "grouped")
    for kind in kinds:
        after = [*before, convolved(kind, channels=(64, 64), size=50)]
        assert (
            profile.predict_latency_ms(costs_of(after)).ms > profile.predict_latency_ms(costs_of(before)).ms
        )


@settings(deadline=None)
@given(profiles, kernels)
def test_the_prediction_lies_in_its_interval_and_is_called_estimated(
    profile: DeviceProfile, kernel_list: list[Kernel]
) -> None:
    predicted = profile.predict_latency_ms(costs_of(kernel_list))
    assert 0 <= predicted.low <= predicted.ms <= predicted.high
    assert predicted.estimated


def test_the_prediction_is_the_sum_the_profile_states() -> None:
    profile = load_profile("raspberry-pi-4b")
    document = profile.document()["latency"]
    kernel_list = [
        convolved("conv3x3s1", channels=(100, 200), size=40),
        convolved("pointwise", channels=(30, 70), size=50),
        convolved("depthwise", channels=(60, 60), size=80),
        Kernel("linear", 11 * 10**6, 11 * 10**6, 0, 0),
        Kernel("pool", 0, 0, 10**6, 10**5),
    ]
    work = {
        "conv3x3s1": 200 * 100 * 9 * 40**2 / 1e9,
        "pointwise": 30 * 70 * 50**2 / 1e9,
        "depthwise": 60 * 9 * 80**2 / 1e9,
        "linear": 0.011,
        "activations": (300 * 40**2 + 100 * 50**2) / 1e6,
        "depthwise_activations": 120 * 80**2 / 1e6,
        "pool": 1.1,
    }
    runtime = document["runtime_factor"]
    for threads in (1, 4):
        times = document["float32"][str(threads)]
        ms = sum(times[name]["value"] * amount for name, amount in work.items())
        predicted = profile.predict_latency_ms(costs_of(kernel_list), threads=threads)
        model = times["model_factor"]
        assert predicted.ms == pytest.approx(ms * runtime["value"])
        assert predicted.low == pytest.approx(ms * runtime["low"] * model["low"])
        assert predicted.high == pytest.approx(ms * runtime["high"] * model["high"])


def test_the_profile_s_own_threads_are_the_default() -> None:
    profile = load_profile("raspberry-pi-4b")
    costs = costs_of([convolved("conv", channels=(64, 64), size=50)])
    assert profile.predict_latency_ms(costs) == profile.predict_latency_ms(costs, threads=4)
    assert profile.predict_latency_ms(costs, threads=1).ms > profile.predict_latency_ms(costs).ms


def test_a_thread_count_without_figures_names_those_that_have_them() -> None:
    with pytest.raises(InputError, match="no float32 latency figures for 3 threads; known: 1, 4"):
        load_profile("raspberry-pi-4b").predict_latency_ms(
            costs_of([convolved("conv", channels=(64, 64), size=50)]), threads=3
        )


def test_the_interval_is_no_tighter_than_thirty_percent() -> None:
    for profile in catalogue():
        for times in profile.latency.float32.values():
            assert times.model_factor.low <= 0.7
            assert times.model_factor.high >= 1.3
            assert times.median_error.value < times.p90_error.value < times.max_error.value


def test_the_published_table_lies_within_the_predicted_intervals() -> None:
    """Published for ncnn, times the stated factor to ONNX Runtime, within the interval of each profile."""
    costs = {name: network_costs(name, 224) for name in NETWORKS}
    known = {profile.name: profile for profile in catalogue()}
    seen = set()
    for row in csv.DictReader(TABLE.read_text().splitlines()):
        profile = known.get(row["device"])
        if profile is None or row["threads"] not in profile.latency.float32:
            continue
        for name, cost in costs.items():
            if row[name]:
                predicted = profile.predict_latency_ms(cost, threads=int(row["threads"]))
                published = float(row[name]) * runtime_factor(profile)
                assert predicted.low <= published <= predicted.high, (row["device"], row["threads"], name)
                seen.add((row["device"], name))
    assert len({device for device, _ in seen}) == len(known)


def test_how_much_longer_one_network_takes_than_another_is_predicted_within_the_intervals() -> None:
    """Published for the Raspberry Pi 4B with four threads; the factor to another runtime cancels out."""
    published = {
        "squeezenet": 46.3,
        "mobilenet_v2": 61.6,
        "resnet18": 122.3,
        "vgg16": 541.7,
        "resnet50": 261.9,
    }
    profile = load_profile("raspberry-pi-4b")
    predicted = {name: profile.predict_latency_ms(network_costs(name, 224)).ms for name in published}
    factor = model_factor(profile)
    for first, second in itertools.combinations(published, 2):
        ratio = (published[first] / published[second]) / (predicted[first] / predicted[second])
        assert factor.low / factor.high <= ratio <= factor.high / factor.low, (first, second)


def test_how_much_faster_one_device_is_than_another_is_predicted_within_the_intervals() -> None:
    """mobilenet_v2 on a Raspberry Pi 4B and a Raspberry Pi 5, four threads: published 61.6 and 10.5 ms."""
    costs = network_costs("mobilenet_v2", 224)
    slow, fast = (load_profile(name) for name in ("raspberry-pi-4b", "raspberry-pi-5"))
    predicted = [p.predict_latency_ms(costs).ms / runtime_factor(p) for p in (slow, fast)]
    ratio = (61.6 / 10.5) / (predicted[0] / predicted[1])
    low = model_factor(slow).low / model_factor(fast).high
    high = model_factor(slow).high / model_factor(fast).low
    assert low <= ratio <= high


@pytest.mark.parametrize("profile", catalogue(), ids=lambda profile: profile.name)
def test_the_limits_leave_room_for_a_real_encoder_and_bite_for_early_wide_cuts(
    profile: DeviceProfile,
) -> None:
    with torch.device("meta"):
        features = torchvision.models.mobilenet_v2().features
        encoder = module_costs(features[:7], 64)
        stem = module_costs(features[:1], 64)
    assert profile.predict_latency_ms(encoder).high <= profile.limits["latency_ms"]
    assert encoder.peak_ram_kb <= profile.limits["peak_ram_kb"]
    assert encoder.weights_kb <= profile.limits["storage_kb"]
    assert encoder.payload_bytes <= profile.limits["payload_bytes"]
    assert stem.payload_bytes > profile.limits["payload_bytes"]
