"""The fit of a latency model, against targets whose times are known."""

from __future__ import annotations

import numpy as np
import pytest

from privynet.device_profiles.calibration import micro_models
from privynet.device_profiles.costs import model_costs
from privynet.device_profiles.latency import features_of, fit_latency
from privynet.encoders import Kernel

TRUTH = {
    "per_run_overhead": 0.01,
    "per_kernel_overhead": 0.002,
    "conv3x3s1": 8.0,
    "conv": 10.0,
    "pointwise": 9.0,
    "depthwise": 15.0,
    "activations": 0.05,
    "weights": 0.02,
    "elementwise": 0.03,
}


@pytest.fixture(scope="module")
def networks() -> list[tuple[Kernel, ...]]:
    return [model_costs(one.model).kernels for one in micro_models()]


def times_of(networks: list[tuple[Kernel, ...]], *, block: int) -> np.ndarray:
    work = [features_of(kernels, channel_block=block) for kernels in networks]
    return np.array([sum(value * found[name] for name, value in TRUTH.items()) for found in work])


@pytest.mark.parametrize("block", (1, 16))
def test_a_target_of_this_form_is_found_again(networks: list[tuple[Kernel, ...]], block: int) -> None:
    fit = fit_latency(networks, times_of(networks, block=block))
    assert fit.channel_block == block
    assert {name: fit.coefficients[name] for name in TRUTH} == pytest.approx(TRUTH, rel=1e-3)
    assert max(fit.errors) < 1e-3
    assert all(value >= 0 for value in fit.coefficients.values())


def test_the_stated_error_is_that_of_networks_left_out(networks: list[tuple[Kernel, ...]]) -> None:
    generator = np.random.default_rng(0)
    times = times_of(networks, block=8) * np.exp(0.05 * generator.standard_normal(len(networks)))
    fit = fit_latency(networks, times)
    # The noise is 5 %; what comes to it is what the fit takes for signal.
    assert 0.03 < np.median(fit.errors) < 0.06
    low, high = fit.interval
    assert 0.85 < low < 0.95 < 1.05 < high < 1.2


def test_a_network_that_no_model_can_tell_decides_nothing(networks: list[tuple[Kernel, ...]]) -> None:
    times = times_of(networks, block=16)
    times[7] *= 5
    fit = fit_latency(networks, times)
    assert np.median(fit.errors) < 0.02
    assert fit.errors[7] > 0.5
