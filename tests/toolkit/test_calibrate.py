"""``privynet calibrate`` on this machine: the profile, its use, too little time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rich.table

from privynet.device_profiles import DeviceProfile, load_profile, validate_profile
from privynet.device_profiles.calibration import Calibration, calibrate, micro_models
from privynet.device_profiles.calibration.calibrate import fit_all
from privynet.device_profiles.costs import model_costs
from privynet.device_profiles.profiles import Precision, profile_text
from privynet.encoders import Splitter, load_backbone, parse_backbone
from privynet.errors import InputError, PrivynetError
from privynet.toolkit.latency_page import write_calibration_page
from privynet.toolkit.verbs.calibrate import tables

from .conftest import run_process


@dataclass(frozen=True)
class Calibrated:
    """What the command wrote and printed."""

    file: Path
    document: dict[str, Any]

    @property
    def profile(self) -> DeviceProfile:
        return load_profile(str(self.file))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    file = tmp_path_factory.mktemp("calibrated") / "this-machine.toml"
    options = ["--name", "this-machine", "--like", "raspberry-pi-5", "--int8", "--seconds", "30"]
    options += ["--threads", "1", "--threads", "2", "--report", file.with_suffix(".html")]
    outcome = run_process(["calibrate", *options, "--out", file, "--json"])
    # A machine that others use may be busy, and is then said to be.
    assert outcome.code == (0 if outcome.json["valid"] else 3), outcome.err
    return Calibrated(file, outcome.json)


def test_the_profile_is_valid_and_has_the_limits_that_were_asked_for(calibrated: Calibrated) -> None:
    assert validate_profile(calibrated.file) == []
    profile = calibrated.profile
    assert profile.name == "this-machine"
    assert profile.limits == load_profile("raspberry-pi-5").limits
    reasons = {limit["reason"] for limit in profile.document()["limits"].values()}
    assert all(reason.startswith("as of raspberry-pi-5: ") for reason in reasons)
    assert profile.document() == calibrated.document["profile"]


def test_it_predicts_and_does_not_call_that_estimated(calibrated: Calibrated) -> None:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    small, large = (
        calibrated.profile.predict_latency_ms(splitter.costs(cut, range(32)), threads=1)
        for cut in ("blocks.1.2", "blocks.7.2")
    )
    assert 0 < small.low <= small.ms <= small.high
    assert small.ms < large.ms
    assert not small.estimated


@pytest.mark.parametrize("precision", ("float32", "int8"))
@pytest.mark.parametrize("threads", (1, 2))
def test_it_predicts_in_both_precisions_on_all_threads_that_were_timed(
    calibrated: Calibrated, precision: Precision, threads: int
) -> None:
    costs = Splitter(load_backbone(parse_backbone("bundled")), 96).costs("blocks.5.2", range(32))
    predicted = calibrated.profile.predict_latency_ms(costs, threads=threads, precision=precision)
    # Hundreds of millions of multiply-accumulates: no machine takes less than this, and none a second.
    assert 0.1 < predicted.low < predicted.high < 1000
    assert calibrated.document["error"][precision][str(threads)]["n"] >= 60


def test_its_error_is_that_of_models_left_out(calibrated: Calibrated) -> None:
    error = calibrated.document["error"]["float32"]["1"]
    times = calibrated.document["profile"]["latency"]["float32"]["1"]
    assert error["n"] >= 60
    assert 0 < error["median"] < error["p90"] < error["max"]
    assert 0 < error["rounds_agree"] <= 1
    assert times["median_error"]["value"] == pytest.approx(error["median"], rel=1e-3)
    assert times["model_factor"]["low"] <= 1 <= times["model_factor"]["high"]
    assert {figure["kind"] for figure in times.values()} == {"measured"}


def test_the_plot_has_every_network_that_was_timed(calibrated: Calibrated) -> None:
    page = calibrated.file.with_suffix(".html").read_text(encoding="utf-8")
    errors = [error for table in calibrated.document["error"].values() for error in table.values()]
    assert page.count("<circle") == sum(error["n"] for error in errors)
    shown = re.findall(r"([\d]+)% within 10%, .* median error ([\d.]+) %, .*n = (\d+)", page)
    assert page.count("<svg") == len(shown) == 4
    for (within, median, n), error in zip(shown, errors, strict=True):
        assert int(n) == error["n"]
        assert float(median) == pytest.approx(100 * error["median"], abs=0.051)
        assert int(within) == pytest.approx(100 * error["within_10_percent"], abs=0.51)


@pytest.mark.parametrize(
    ("agree", "shown", "busy"), ((0.95, "95%", False), (0.5, "50%", True), (None, "-", False))
)
def test_a_target_that_was_busy_is_told(
    calibrated: Calibrated, tmp_path: Path, agree: float | None, shown: str, busy: bool
) -> None:
    kernels = {one.name: model_costs(one.model).kernels for one in micro_models()[:30]}
    fitted = fit_all(kernels, {1: {name: 1.0 + at for at, name in enumerate(kernels)}})
    made = Calibration(calibrated.profile, {"float32": fitted}, {"float32": {1: agree}})
    lines = list(tables({**made.document(), "file": "mine.toml"}))
    (drawn,) = (line for line in lines if isinstance(line, rich.table.Table))
    assert [str(cell) for cell in drawn.columns[-1].cells] == [shown]
    assert any(isinstance(line, str) and line.startswith("INVALID") for line in lines) == busy
    assert made.document()["valid"] != busy
    write_calibration_page(made, tmp_path / "page.html")
    assert ("the target was busy: only 50%" in (tmp_path / "page.html").read_text()) == busy


def test_more_threads_than_the_target_has_need_to_be_chosen(tmp_path: Path) -> None:
    text = profile_text(load_profile("raspberry-pi-5"))
    wide = tmp_path / "wide.toml"
    wider = {
        "cores = { value = 4,": "cores = { value = 999,",
        "threads = { value = 4,": "threads = { value = 999,",
    }
    for narrow, written in {**wider, "float32.4]": "float32.999]"}.items():
        assert narrow in text
        text = text.replace(narrow, written)
    wide.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"999 threads on \d+ cores; give --threads, at most \d+"):
        calibrate(name="wide", like=str(wide), seconds=16)


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(InputError, match=r"999 threads on \d+ cores; give at most \d+"):
        calibrate(name="wide", threads=(1, 999), seconds=16)


def test_too_little_time_is_told_with_what_helps() -> None:
    with pytest.raises(PrivynetError, match="at least 60 are needed") as caught:
        calibrate(name="hasty", threads=(1,), seconds=0.05)
    assert "--seconds" in str(caught.value)
