from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.device_profiles import METRICS, parse_limits
from privynet.errors import InputError


def test_the_nine_metrics_are_there() -> None:
    nine = "macs weights_kb peak_ram_kb storage_kb latency_ms payload_bytes psnr_db ssim r2"
    assert list(METRICS) == nine.split()
    assert [name for name, metric in METRICS.items() if metric.privacy] == ["psnr_db", "ssim", "r2"]


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(METRICS)), st.floats(min_value=1e-6, max_value=1e12)))
def test_limits_come_back_as_they_were_written(limits: dict[str, float]) -> None:
    assert parse_limits([f"{name}={value!r}" for name, value in limits.items()]) == limits


def test_spaces_and_exponents_are_read() -> None:
    assert parse_limits([" macs = 3e8 ", "r2=0"]) == {"macs": 3e8, "r2": 0.0}


@pytest.mark.parametrize(
    "text", ["latency_ms=-1", "latency_ms=0", "r2=-0.1", "r2=nan", "macs=inf", "ssim=-inf"]
)
def test_a_limit_nothing_can_meet_is_refused_with_its_name_and_unit(text: str) -> None:
    name = text.partition("=")[0]
    with pytest.raises(InputError, match=name) as caught:
        parse_limits([text])
    told = f"{caught.value}; {caught.value.hint}"
    assert METRICS[name].privacy or METRICS[name].unit in told
    assert "(1)" not in told


@pytest.mark.parametrize("text", ["latency_ms=fast", "latency_ms=", "latency_ms"])
def test_a_limit_that_is_no_assignment_of_a_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="latency_ms"):
        parse_limits([text])


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean latency_ms"):
        parse_limits(["latency=5"])


def test_a_limit_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="r2 is given twice"):
        parse_limits(["r2=0.5", "r2=0.6"])


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_limit_or_an_input_error(text: str) -> None:
    try:
        limits = parse_limits([text])
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(name in METRICS and math.isfinite(value) and value >= 0 for name, value in limits.items())
