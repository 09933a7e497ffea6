"""Limits: where they come from, and what is inside them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privynet.device_profiles import METRICS, load_profile
from privynet.errors import InputError
from privynet.search import Limits

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


@given(st.floats(-5, -0.01), st.floats(-10, 1))
def test_a_limit_below_zero_is_an_upper_limit_too(limit: float, value: float) -> None:
    """An attacker may do worse than the blind guess."""
    limits = Limits.resolve({"r2": limit}, PI)
    assert ("r2" in limits.violated({"r2": value})) == (value > limit)


def test_a_limit_is_nearly_used_from_nine_tenths_on() -> None:
    limits = Limits.resolve({"r2": 0.5, "latency_ms": 100.0}, PI)
    assert limits.nearly_used({"r2": 0.49, "latency_ms": 10.0}) == ["r2"]
    assert limits.nearly_used({"r2": 0.1, "latency_ms": 30.0}) == []
