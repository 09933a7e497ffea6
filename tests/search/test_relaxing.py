"""Which limits hold a better encoder back."""

from __future__ import annotations

import pytest

from privynet.device_profiles import load_profile
from privynet.search import Limits
from privynet.search.relaxing import Option, binding, relaxed

LIMITS = Limits.resolve({"r2": 0.5, "macs": 1000.0, "latency_ms": 100.0}, load_profile("raspberry-pi-5"))
CHOSEN = {"r2": 0.02, "macs": 400.0, "latency_ms": 45.0}


def test_the_limit_that_a_better_candidate_was_rejected_by_binds_however_little_of_it_is_used() -> None:
    options = [Option(4, 0.94, {**CHOSEN, "r2": 0.517}), Option(5, 0.52, CHOSEN)]
    wider = relaxed(options, LIMITS, now=0.52)
    assert binding(LIMITS, CHOSEN, wider) == ["r2"]
    assert wider["r2"] == {"limit": 0.6, "accuracy": 0.94, "gain": pytest.approx(0.42), "trial": 4}
    assert wider["macs"]["trial"] is None and wider["macs"]["gain"] == 0


def test_what_breaks_two_limits_is_bought_by_neither() -> None:
    options = [Option(4, 0.94, {**CHOSEN, "r2": 0.517, "macs": 1100.0})]
    wider = relaxed(options, LIMITS, now=0.52)
    assert binding(LIMITS, CHOSEN, wider) == []


def test_the_limit_that_costs_most_comes_first_and_a_nearly_used_one_last() -> None:
    options = [Option(1, 0.7, {**CHOSEN, "macs": 1100.0}), Option(2, 0.9, {**CHOSEN, "r2": 0.55})]
    wider = relaxed(options, LIMITS, now=0.52)
    assert binding(LIMITS, {**CHOSEN, "latency_ms": 95.0}, wider) == ["r2", "macs", "latency_ms"]
