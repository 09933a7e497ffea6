"""Limits that nothing can be inside are found before anything runs."""

from __future__ import annotations

import pytest

from privynet.device_profiles import load_profile
from privynet.encoders import Splitter, load_backbone, parse_backbone
from privynet.errors import InputError
from privynet.search import Limits
from privynet.search.constraints import check_limits, cost_metrics
from privynet.search.space import Choices, Space

PI = load_profile("raspberry-pi-5")
SPLITTER = Splitter(load_backbone(parse_backbone("bundled"), shapes_only=True), 16)
LEAST_MACS = min(SPLITTER.costs(cut.name, [0]).macs for cut in SPLITTER.cuts)
LEAST_PAYLOAD = min(SPLITTER.costs(cut.name, [0]).payload_bytes for cut in SPLITTER.cuts)


def check(choices: Choices | None = None, **limits: float) -> None:
    space = Space({(0, 16): SPLITTER}, choices)
    check_limits(space, Limits.resolve(limits, PI), PI, ["bundled:plain8"])


def test_limits_that_one_cut_meets_with_one_channel_pass() -> None:
    check(macs=LEAST_MACS)
    check(payload_bytes=LEAST_PAYLOAD)
    check()


def test_one_limit_below_the_least_of_every_cut_is_named_with_that_least() -> None:
    with pytest.raises(InputError, match="no cut of bundled:plain8 has macs of at most") as caught:
        check(macs=LEAST_MACS - 1)
    assert f"{LEAST_MACS:,.0f}" in str(caught.value) and "--limit macs" in str(caught.value.hint)


def test_limits_that_exclude_each_other_are_named_together() -> None:
    with pytest.raises(InputError, match="inside all limits at once") as caught:
        check(macs=LEAST_MACS, payload_bytes=LEAST_PAYLOAD)
    assert "macs" in str(caught.value) or "payload_bytes" in str(caught.value)


def test_fewer_bits_make_a_payload_possible() -> None:
    with pytest.raises(InputError, match="payload_bytes"):
        check(payload_bytes=LEAST_PAYLOAD / 4)
    check(Choices(bits=(32, 8)), payload_bytes=LEAST_PAYLOAD / 4)


def test_costs_rise_with_the_number_of_channels() -> None:
    """Why one channel stands for all in the check."""
    for cut in SPLITTER.cuts:
        one, more = (cost_metrics(SPLITTER.costs(cut.name, range(count)), PI) for count in (1, cut.channels))
        assert all(one[metric] <= more[metric] for metric in one)
