"""The page of predicted against measured times, and which files it and other results may replace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from privynet.device_profiles import catalogue, write_profile
from privynet.device_profiles.calibration import Calibration, micro_models
from privynet.device_profiles.calibration.calibrate import fit_all
from privynet.device_profiles.costs import model_costs
from privynet.errors import InputError
from privynet.toolkit.latency_page import TimedNetworks, write_calibration_page, write_latency_page
from privynet.toolkit.result_file import check_page, check_profile_file

TIMES_MS = {"near": (1.05, 1.0), "far": (2.7, 2.0)}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    write_latency_page(path, title="<two>", told="Two.", panels=[TimedNetworks("one thread", TIMES_MS)])
    return path


def test_the_median_of_two_errors_lies_between_them(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "50% within 10%, 50% within 25%; median error 20.0 %, largest 35 %, n = 2" in text
    assert re.findall(r'class="mark( far)?"', text) == ["", " far"]
    assert "&lt;two&gt;" in text and "<two>" not in text


def test_only_what_privynet_wrote_is_replaced(page: Path) -> None:
    profile, other = page.with_name("mine.toml"), page.with_name("other.txt")
    write_profile(catalogue()[0], profile)
    other.write_text("mine", encoding="utf-8")
    check_profile_file(profile, force=True)
    check_page(page, force=True)
    for check, written in ((check_profile_file, profile), (check_page, page)):
        with pytest.raises(InputError, match=r"exists; choose another .* or --force to replace it"):
            check(written, force=False)
        with pytest.raises(InputError, match=r"other\.txt is no .*, and is not replaced"):
            check(other, force=True)
        check(page.with_name("new"), force=False)
    for check, wrong in ((check_profile_file, page), (check_page, profile)):
        with pytest.raises(InputError, match="and is not replaced"):
            check(wrong, force=True)


def test_a_network_that_was_not_timed_on_the_fewest_threads_is_not_drawn_on_more(tmp_path: Path) -> None:
    kernels = {one.name: model_costs(one.model).kernels for one in micro_models()[:30]}
    new, *names = kernels
    times_ms = {threads: {name: 1.0 + at for at, name in enumerate(names)} for threads in (1, 2)}
    times_ms[2] = {new: 9.0, **times_ms[2]}
    fitted = fit_all(kernels, times_ms)
    calibration = Calibration(catalogue()[0], {"float32": fitted}, {"float32": {1: None, 2: 1.0}})
    write_calibration_page(calibration, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"<title>(\S+): predicted", text) == [*names, *names]
