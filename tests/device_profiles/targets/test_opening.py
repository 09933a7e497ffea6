"""What a target may be called."""

from __future__ import annotations

import pytest

from privynet.device_profiles.targets import open_target
from privynet.errors import InputError


@pytest.mark.parametrize(
    "on",
    [
        "local",
        "ssh://pi",
        "ssh://pi@raspberrypi.local",
        "ssh://pi@192.168.1.20:2222",
        "ssh://me@[fe80::1%eth0]:22",
        "ssh://Some_Alias/",
        "adb://R58M12ABCDE",
        "adb://emulator-5554",
        "adb://192.168.1.30:5555",
        "adb://adb-R58M12-x7Yz._adb-tls-connect._tcp",
    ],
)
def test_targets_have_names(on: str) -> None:
    assert open_target(on).name == on.rstrip("/")


@pytest.mark.parametrize(
    "on",
    [
        *(
            "",
            "here",
            "localhost",
            "local://",
            "ssh",
            "ssh:",
            "ssh://",
            "ssh://@host",
            "ssh://pi:secret@host",
        ),
        *(
            "ssh://host:",
            "ssh://host:0",
            "ssh://host:65536",
            "ssh://host:22x",
            "ssh://host/path",
            "ssh://a b",
        ),
        *("ssh://-oProxyCommand=id", "ssh://-x@host", "ssh://host;id", "ssh://[::1", "adb://", "adb://-s"),
        *("adb://a b", "adb://a;id", "telnet://host", "SSH://host"),
    ],
)
def test_anything_else_is_an_input_error(on: str) -> None:
    allowed = r"; allowed: local, ssh://USER@HOST\[:PORT\], adb://SERIAL$"
    with pytest.raises(InputError, match="^cannot measure on .*" + allowed):
        open_target(on)
