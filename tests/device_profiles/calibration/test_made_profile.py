"""The profile of a target whose times are told: its cores, memory and threads, and where it has them from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from privynet.device_profiles import DeviceProfile, load_profile
from privynet.device_profiles.calibration import micro_models
from privynet.device_profiles.calibration.calibrate import fit_all
from privynet.device_profiles.calibration.made_profile import make_profile
from privynet.device_profiles.costs import model_costs
from privynet.device_profiles.latency import features_of
from privynet.device_profiles.measuring import PackResult
from privynet.encoders import Costs, Kernel
from privynet.errors import PrivynetError

MACHINE = {
    "architecture": "aarch64",
    "system": "Linux",
    "onnxruntime": "1.26.0",
    "processor": "Cortex-A72",
    "cpus": 4,
    "affinity": [0, 1, 2, 3],
    "memory_mb": 3792.4,
}
PER_GMAC = {"conv3x3s1": 20.0, "conv": 30.0, "pointwise": 25.0, "depthwise": 60.0, "linear": 25.0}


@pytest.fixture(scope="module")
def kernels() -> dict[str, tuple[Kernel, ...]]:
    return {one.name: model_costs(one.model).kernels for one in micro_models()}


def time_of(kernels: tuple[Kernel, ...]) -> float:
    work = features_of(kernels)
    return 0.1 + sum(ms * work[name] for name, ms in PER_GMAC.items()) + 0.5 * work["activations"]


def timed(
    kernels: dict[str, tuple[Kernel, ...]], *, models: dict[int, int], **machine: Any
) -> dict[int, PackResult]:
    """What a target gives that is half as fast again on four threads, and comes to so many models on each."""
    return {
        threads: PackResult(
            rounds_ms={
                name: [time_of(one) / (1 if threads == 1 else 1.5)]
                for name, one in list(kernels.items())[:count]
            },
            machine={**MACHINE, **machine},
        )
        for threads, count in models.items()
    }


def made(
    results: dict[int, PackResult],
    kernels: dict[str, tuple[Kernel, ...]],
    *,
    like: DeviceProfile | None = None,
    on: str = "local",
) -> DeviceProfile:
    fitted = fit_all(kernels, {threads: result.medians_ms for threads, result in results.items()})
    fits = {threads: one.fit for threads, one in fitted.items()}
    return make_profile("mine", on, like, results, {"float32": fits})


def test_the_fastest_thread_count_is_found_on_the_models_that_all_came_to(
    kernels: dict[str, tuple[Kernel, ...]],
) -> None:
    """Slow targets do not come to all: more models are no slower threads."""
    profile = made(timed(kernels, models={1: 80, 4: 160}), kernels)
    assert profile.threads == 4


def test_it_predicts_the_target_that_it_was_made_of(kernels: dict[str, tuple[Kernel, ...]]) -> None:
    profile = made(timed(kernels, models={1: 160, 4: 160}), kernels)
    one = kernels["000-mobile"]
    costs = Costs(sum(kernel.macs for kernel in one), 1.0, 1.0, 1, one)
    assert profile.predict_latency_ms(costs, threads=1).ms == pytest.approx(time_of(one), rel=0.01)
    assert profile.predict_latency_ms(costs, threads=4).ms == pytest.approx(time_of(one) / 1.5, rel=0.05)
    assert profile.latency_error < 0.05


def test_what_the_target_says_is_measured(kernels: dict[str, tuple[Kernel, ...]]) -> None:
    document = made(timed(kernels, models={1: 100}), kernels).document()
    assert {key: document[key]["value"] for key in ("cores", "memory_mb", "threads")} == {
        "cores": 4,
        "memory_mb": 3792,
        "threads": 1,
    }
    assert {document[key]["kind"] for key in ("cores", "memory_mb", "threads")} == {"measured"}
    assert (document["core_type"], document["class"]) == ("Cortex-A72", "board")
    assert "limits" not in document or document["limits"] == {}


def test_what_comes_from_another_profile_says_so(kernels: dict[str, tuple[Kernel, ...]]) -> None:
    like = load_profile("raspberry-pi-4b")
    results = timed(kernels, models={1: 100, 4: 100}, memory_mb=None)
    document = made(results, kernels, like=like).document()
    assert document["memory_mb"] == like.document()["memory_mb"]
    assert document["threads"] == like.document()["threads"]
    assert document["limits"] == {
        name: {"value": limit["value"], "reason": f"as of raspberry-pi-4b: {limit['reason']}"}
        for name, limit in like.document()["limits"].items()
    }
    assert document["class"] == like.device_class


def test_a_target_of_unknown_memory_needs_a_profile_like_it(kernels: dict[str, tuple[Kernel, ...]]) -> None:
    with pytest.raises(PrivynetError, match="does not say how much memory") as caught:
        made(timed(kernels, models={1: 100}, memory_mb=None), kernels)
    assert "--like" in str(caught.value)


def test_what_answers_over_adb_is_a_phone(kernels: dict[str, tuple[Kernel, ...]]) -> None:
    assert made(timed(kernels, models={1: 100}), kernels, on="adb://X").device_class == "phone"


def test_noise_widens_the_stated_error(kernels: dict[str, tuple[Kernel, ...]]) -> None:
    results = timed(kernels, models={1: 160})
    generator = np.random.default_rng(0)
    noisy = {
        name: [ms * np.exp(0.1 * generator.standard_normal())] for name, ms in results[1].medians_ms.items()
    }
    profile = made({1: PackResult(rounds_ms=noisy, machine=MACHINE)}, kernels)
    assert 0.05 < profile.latency_error < 0.15
    table = profile.latency.table(threads=1)
    assert table.model_factor.low < 0.93
    assert table.model_factor.high > 1.07
