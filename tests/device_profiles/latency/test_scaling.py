"""How times on several threads follow from those on one: found again from known times, and predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privynet.device_profiles import DeviceProfile, load_profile, validate_profile
from privynet.device_profiles.calibration import micro_models
from privynet.device_profiles.costs import model_costs
from privynet.device_profiles.latency import fit_latency, fit_scaling, scaled_times
from privynet.device_profiles.profiles import profile_text
from privynet.encoders import Convolution, Costs, Kernel
from privynet.errors import InputError

ALONE = {
    "per_run_overhead": 0.01,
    "per_kernel_overhead": 0.002,
    "conv3x3s1": 8.0,
    "pointwise": 9.0,
    "pool": 2.0,
}
"""Coefficients of a target's time on one thread."""
START_MS = 0.02


def time_of(kernel: Kernel) -> float:
    """One kernel's time on one thread, in milliseconds, told without the code under test."""
    per_gmac = {"conv3x3s1": 8.0, "pointwise": 9.0}.get(kernel.kind, 0.0)
    ms = per_gmac * kernel.macs / 1e9
    ms += 0.002 if kernel.convolution is not None or kernel.kind == "linear" else 0.0
    ms += 2.0 * (kernel.input_elements + kernel.output_elements) / 1e6 if kernel.kind == "pool" else 0.0
    return ms


def on_two_threads(kernels: tuple[Kernel, ...]) -> float:
    """A target whose kernels take 1.3 times as long for their first 0.02 ms, and half as long after."""
    parts = [time_of(kernel) for kernel in kernels]
    return 0.015 + sum(1.3 * min(ms, START_MS) + 0.5 * max(0.0, ms - START_MS) for ms in parts)


@pytest.fixture(scope="module")
def networks() -> list[tuple[Kernel, ...]]:
    return [model_costs(one.model).kernels for one in micro_models()]


def times(networks: list[tuple[Kernel, ...]]) -> tuple[list[float], list[float]]:
    """On two threads, and on one."""
    on_one = [ALONE["per_run_overhead"] + sum(map(time_of, kernels)) for kernels in networks]
    return [on_two_threads(kernels) for kernels in networks], on_one


def test_a_target_of_this_form_is_found_again(networks: list[tuple[Kernel, ...]]) -> None:
    on_two, on_one = times(networks)
    fit = fit_scaling(networks, on_two, on_one, fewest=fit_latency(networks, on_one))
    assert fit.start_ms == START_MS
    assert fit.coefficients["convolutions_start"] == pytest.approx(1.3, rel=0.01)
    assert fit.coefficients["convolutions_rest"] == pytest.approx(0.5, rel=0.01)
    assert fit.coefficients["per_run_overhead"] == pytest.approx(0.015, rel=0.01)
    assert max(fit.errors) < 0.01


def test_the_stated_error_is_that_of_networks_left_out_of_both_fits(
    networks: list[tuple[Kernel, ...]],
) -> None:
    """With few networks for its many coefficients the fit to one thread takes noise for signal: errors of
    networks that were in it would be far smaller than those of networks that were not."""
    generator = np.random.default_rng(0)
    order = generator.permutation(len(networks))
    some, others = [networks[place] for place in order[:60]], [networks[place] for place in order[60:]]
    on_two, on_one = times(some)
    noisy = np.array(on_one) * np.exp(0.2 * generator.standard_normal(len(some)))
    fewest = fit_latency(some, noisy)
    fit = fit_scaling(some, on_two, noisy, fewest=fewest)
    work = [
        scaled_times(one, fewest.coefficients, channel_block=fewest.channel_block, start_ms=fit.start_ms)
        for one in others
    ]
    predicted = [sum(value * terms[name] for name, value in fit.coefficients.items()) for terms in work]
    unseen = np.abs(np.array(predicted) / np.array(times(others)[0]) - 1)
    assert np.median(fit.errors) > 0.6 * np.median(unseen)


def figure(value: float, unit: str, **more: float) -> dict[str, Any]:
    return {"value": value, "unit": unit, "source": "a clock", "kind": "measured", **more}


ERRORS = {f"{name}_error": figure(0.1, "1") for name in ("median", "p90", "max")}
FACTOR = {"model_factor": figure(1.0, "1", low=0.9, high=1.2)}


def profile_with(scaling: dict[str, Any]) -> dict[str, Any]:
    """A profile of one table, for one thread, and scalings."""
    document = load_profile("raspberry-pi-4b").document()
    table = {"conv3x3s1": figure(8.0, "ms/GMAC"), "weights_over_1mb": figure(3.0, "ms/Mweight")}
    document["latency"] = {
        "core_family": "x",
        "float32": {"1": {**table, **ERRORS, **FACTOR}},
        "float32_scaling": scaling,
    }
    return document


SCALING = {
    "start": figure(0.02, "ms"),
    "per_run_overhead": figure(0.01, "ms"),
    "convolutions_start": figure(1.3, "1"),
    "convolutions_rest": figure(0.5, "1"),
    "memory": figure(0.8, "1"),
    **ERRORS,
    **FACTOR,
}


def test_the_prediction_is_what_the_profile_states() -> None:
    profile = DeviceProfile.model_validate(profile_with({"4": SCALING}))
    shape = Convolution(100, 200, 1, (3, 3), (1, 1), 40, 40)
    kernel = Kernel("conv3x3s1", shape.macs, 10, 10, 10, convolution=shape)
    weights = 100 * 200 * 9
    alone = 8.0 * shape.macs / 1e9
    over = 3.0 * max(0.0, 2 * weights / 1e6 - 0.25)
    costs = Costs(2 * shape.macs, 1.0, 1.0, 1, (kernel, kernel))
    assert profile.predict_latency_ms(costs, threads=1).ms == pytest.approx(2 * alone + over)
    predicted = profile.predict_latency_ms(costs)
    ms = 0.01 + 2 * (1.3 * 0.02 + 0.5 * (alone - 0.02)) + 0.8 * over
    assert predicted.ms == pytest.approx(ms)
    assert (predicted.low, predicted.high) == (pytest.approx(0.9 * ms), pytest.approx(1.2 * ms))
    assert not predicted.estimated


def test_a_thread_count_without_figures_names_those_that_scale_too() -> None:
    profile = DeviceProfile.model_validate(profile_with({"4": SCALING}))
    with pytest.raises(InputError, match="no float32 latency figures for 3 threads; known: 1, 4"):
        profile.predict_latency_ms(Costs(1, 1.0, 1.0, 1, ()), threads=3)


def doubled(text: str) -> str:
    """With the scaling's table a second time, for one thread."""
    return text + text[text.index("[latency.float32_scaling.4]") :].replace("scaling.4]", "scaling.1]")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (doubled, "must be more than the 1 threads"),
        (lambda text: text.replace("\nstart =", "\nstrt ="), "did you mean start?"),
        (lambda text: text.replace("scaling.4]", "scaling.2]"), "no entry for the profile's 4 threads"),
        (lambda text: text.replace("scaling.4]", "scaling.four]"), "latency.float32_scaling.four"),
    ],
)
def test_a_scaling_that_makes_no_sense_is_named(
    change: Callable[[str], str], told: str, tmp_path: Path
) -> None:
    text = profile_text(DeviceProfile.model_validate(profile_with({"4": SCALING})))
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert load_profile(str(path)).document() == profile_with({"4": SCALING})
    path.write_text(change(text), encoding="utf-8")
    findings = [one for one in validate_profile(path) if one["severity"] == "error"]
    assert any(told in finding["message"] for finding in findings)
