"""``privynet calibrate`` on this machine: the profile, its use, bad input."""

from __future__ import annotations

from pathlib import Path

import pytest

from privynet.device_profiles import load_profile, validate_profile
from privynet.device_profiles.calibration import Calibration, calibrate
from privynet.device_profiles.profiles import write_profile
from privynet.encoders import Splitter, load_backbone, parse_backbone
from privynet.errors import InputError, PrivynetError


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return calibrate(name="this-machine", threads=(1,), like="raspberry-pi-5", seconds=15)


def test_the_profile_can_be_written_read_and_used(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "this-machine.toml"
    write_profile(calibration.profile, path)
    assert validate_profile(path) == []
    profile = load_profile(str(path))
    assert profile == calibration.profile
    assert profile.limits == load_profile("raspberry-pi-5").limits
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    small, large = (splitter.costs(cut, range(32)) for cut in ("blocks.1.2", "blocks.7.2"))
    predicted = [profile.predict_latency_ms(costs, threads=1) for costs in (small, large)]
    assert 0 < predicted[0].low <= predicted[0].ms <= predicted[0].high < predicted[1].high
    assert predicted[0].ms < predicted[1].ms
    assert not predicted[0].estimated


def test_its_error_is_that_of_models_left_out(calibration: Calibration) -> None:
    document = calibration.document()
    error, times = document["error"]["1"], document["profile"]["latency"]["float32"]["1"]
    assert error["n"] >= 60
    assert 0 < error["median"] < error["p90"] < error["max"]
    assert times["median_error"]["value"] == pytest.approx(error["median"], rel=1e-3)
    assert times["model_factor"]["low"] <= 1 <= times["model_factor"]["high"]
    assert {figure["kind"] for figure in times.values()} == {"measured"}


def test_too_little_time_is_told_with_what_helps() -> None:
    with pytest.raises(PrivynetError, match=r"models were timed in 1 s, at least 60 are needed; .*--seconds"):
        calibrate(name="this-machine", threads=(1,), seconds=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "My Board"}, "'My Board' is no name for a device"),
        ({"name": "x", "on": "telnet://x"}, "cannot measure on 'telnet://x'"),
        ({"name": "x", "like": "raspberry-pi-9"}, "raspberry-pi-9"),
        ({"name": "x", "seconds": 0}, "seconds is 0"),
    ],
)
def test_bad_input_is_told_before_anything_runs(options: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        calibrate(**options)  # type: ignore[arg-type]
