"""Names that are no shipped file's: aliases, and the user's own profiles."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from privynet.device_profiles import CATALOGUE, aliases, catalogue, list_profiles, load_profile
from privynet.device_profiles.profiles import Alias, check_name, own_folder
from privynet.errors import InputError

TABLE = Path(__file__).parents[3] / "benchmarks" / "ncnn_latency.csv"
TEXT = (CATALOGUE / "raspberry-pi-5.toml").read_text(encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIVYNET_DEVICES", str(tmp_path))
    return tmp_path


def put(folder: Path, name: str, file: str | None = None) -> Path:
    path = folder / (file or f"{name}.toml")
    path.write_text(TEXT.replace('name = "raspberry-pi-5"', f'name = "{name}"'), encoding="utf-8")
    return path


def test_an_own_profile_is_found_by_its_name(own: Path) -> None:
    put(own, "my-pi")
    assert load_profile("my-pi").name == "my-pi"
    (entry,) = list_profiles().own
    assert entry.profile == load_profile("my-pi")
    assert list_profiles().own_folder == own


def test_an_unknown_name_is_answered_with_an_own_one(own: Path) -> None:
    put(own, "my-pi")
    with pytest.raises(InputError, match="unknown device 'my-py'; did you mean my-pi"):
        load_profile("my-py")


@pytest.mark.parametrize("name", ["raspberry-pi-5", "phone-low-end"])
def test_a_shipped_name_is_neither_replaced_nor_hides_the_own_profile(own: Path, name: str) -> None:
    path = put(own, name)
    with pytest.raises(InputError, match=f"{name} is a shipped profile's name: rename"):
        load_profile(name)
    assert [entry.profile for entry in list_profiles().own] == [None]
    assert load_profile(str(path)).name == name
    path.unlink()
    assert load_profile(name) in catalogue()


def test_a_file_with_another_name_than_its_profile_is_told(own: Path) -> None:
    put(own, "my-pi", "garden.toml")
    with pytest.raises(InputError, match=r"called my-pi: the file must be my-pi\.toml"):
        load_profile("garden")


def test_a_broken_file_is_listed_and_breaks_nothing_else(own: Path) -> None:
    put(own, "my-pi")
    (own / "bad.toml").write_text("name = \n")
    (own / "bytes.toml").write_bytes(b"\xff\xfe")
    (own / "notes.txt").write_text("no profile")
    (own / "folder.toml").mkdir()
    found = {entry.path.name: entry for entry in list_profiles().own}
    assert set(found) == {"my-pi.toml", "bad.toml", "bytes.toml", "folder.toml"}
    assert [name for name, entry in found.items() if entry.profile] == ["my-pi.toml"]
    assert all(entry.findings for entry in found.values() if entry.profile is None)
    assert load_profile("my-pi").name == "my-pi"
    with pytest.raises(InputError, match=r"bad\.toml:1: not TOML"):
        load_profile("bad")


def test_a_folder_that_does_not_exist_is_empty(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVYNET_DEVICES", str(own / "nowhere"))
    assert list_profiles().own == ()


@pytest.mark.parametrize(
    ("given", "configuration", "platform", "expected"),
    [
        ("/devices", "/configuration", "linux", "/devices"),
        ("", "/configuration", "linux", "/configuration/privynet/devices"),
        ("", "/configuration", "darwin", "/configuration/privynet/devices"),
        ("", "relative", "linux", "/home/me/.config/privynet/devices"),
        ("", "", "linux", "/home/me/.config/privynet/devices"),
        ("", "", "darwin", "/home/me/Library/Application Support/privynet/devices"),
    ],
)
def test_the_folder_is_where_the_system_keeps_configuration(
    given: str, configuration: str, platform: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("PRIVYNET_DEVICES", given)
    monkeypatch.setenv("XDG_CONFIG_HOME", configuration)
    monkeypatch.setattr(sys, "platform", platform)
    assert own_folder() == Path(expected)


def test_an_alias_stands_for_the_slowest_device_of_its_kind() -> None:
    """By the published times of resnet18, at the thread count of the profile."""
    profiles = {profile.name: profile for profile in catalogue()}
    times = {
        row["device"]: float(row["resnet18"])
        for row in csv.DictReader(TABLE.read_text().splitlines())
        if row["device"] in profiles and int(row["threads"]) == profiles[row["device"]].threads
    }
    kinds = {
        "board-low-end": {"raspberry-pi-zero-2w", "raspberry-pi-3b-plus"},
        "board-mid-range": {"raspberry-pi-4b", "jetson-nano", "rk3568"},
        "board-high-end": {"raspberry-pi-5", "orange-pi-5", "jetson-orin-nano"},
        "phone-low-end": {"snapdragon-410"},
        "phone-mid-range": {"snapdragon-660"},
        "phone-high-end": {"snapdragon-855-plus", "dimensity-9300"},
    }
    assert set.union(*kinds.values()) == {profile.name for profile in catalogue()}
    assert {alias.name: alias.profile for alias in aliases().values()} == {
        kind: max(names, key=times.__getitem__) for kind, names in kinds.items()
    }


@pytest.mark.parametrize("alias", aliases().values(), ids=lambda alias: alias.name)
def test_what_an_alias_loads_has_its_real_name(alias: Alias) -> None:
    assert load_profile(alias.name).name == alias.profile


def test_a_name_that_passes_is_found_and_others_are_refused(own: Path) -> None:
    check_name("my-pi.v2")
    put(own, "my-pi.v2")
    assert load_profile("my-pi.v2").name == "my-pi.v2"
    for name in ("raspberry-pi-4b", "phone-low-end", "my-pi.toml", "My Pi", "../my-pi", ""):
        with pytest.raises(InputError, match=r"shipped profile's name|file's path|no name for a device"):
            check_name(name)
