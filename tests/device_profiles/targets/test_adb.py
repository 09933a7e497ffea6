"""What is particular to phones: which of them, and what the client says of those that are not there."""

from __future__ import annotations

import os
import subprocess

import pytest

from privynet.device_profiles.targets import open_target
from privynet.errors import InputError

from .temporary_adb import Phone

pytestmark = pytest.mark.adb


def test_a_phone_that_is_not_there_is_named(phone: Phone) -> None:
    expected = r"^adb://R58M is not there: device 'R58M' not found; adb devices lists those that are"
    with pytest.raises(InputError, match=expected), open_target("adb://R58M"):
        pass


def test_a_phone_that_went_away_is_not_there(phone: Phone) -> None:
    subprocess.run(["adb", "disconnect", phone.url.removeprefix("adb://")], check=True, capture_output=True)
    with (
        pytest.raises(InputError, match=r"is not there: device '127.0.0.1:\d+' not found"),
        open_target(phone.url),
    ):
        pass


def test_a_client_that_is_missing_is_said_with_its_package(
    phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "^adb is not installed; sudo apt-get install adb$"
    with monkeypatch.context() as without:
        without.setenv("PATH", str(phone.system))
        with pytest.raises(InputError, match=expected), open_target(phone.url):
            pass


def test_the_clients_server_is_left_as_it_is(phone: Phone) -> None:
    """Others may use it."""
    with open_target(phone.url):
        pass
    listed = subprocess.run(["adb", "devices"], env=os.environ, capture_output=True, text=True, check=True)
    assert phone.url.removeprefix("adb://") in listed.stdout
