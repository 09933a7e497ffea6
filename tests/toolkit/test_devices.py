"""What ``privynet devices`` shows of profiles: shipped, generic, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from privynet.device_profiles import CATALOGUE, DeviceProfile, aliases, catalogue
from privynet.toolkit.device_tables import profiles_tables

from .conftest import Outcome

Run = Callable[..., Outcome]

TEXT = (CATALOGUE / "raspberry-pi-5.toml").read_text(encoding="utf-8")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of own profiles: one that can be used, one that cannot."""
    monkeypatch.setenv("PRIVYNET_DEVICES", str(tmp_path))
    text = TEXT.replace('name = "raspberry-pi-5"', 'name = "my-pi"')
    (tmp_path / "my-pi.toml").write_text(text, encoding="utf-8")
    (tmp_path / "raspberry-pi-5.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def test_the_list_has_everything_that_a_device_can_be_called(privynet: Run, own: Path) -> None:
    shown = privynet("devices", "list").out
    for name in [*aliases(), *(profile.name for profile in catalogue()), "my-pi"]:
        assert name in shown
    assert f"{own}/raspberry-pi-5.toml:1: raspberry-pi-5 is a shipped profile's name" in shown
    listed = privynet("devices", "list", "--json").json
    assert [device["name"] for device in listed["devices"] if device["own"]] == ["my-pi"]
    assert {alias["name"]: alias["profile"] for alias in listed["aliases"]}[
        "phone-low-end"
    ] == "snapdragon-410"
    assert [(file["file"], file["line"]) for file in listed["unusable"]] == [
        (f"{own}/raspberry-pi-5.toml", 1)
    ]


def test_on_80_columns_only_titles_take_a_second_line(privynet: Run) -> None:
    listed = privynet("devices", "list", "--json").json
    console = Console(width=80)
    with console.capture() as captured:
        for item in profiles_tables(listed):
            if not isinstance(item, str):
                console.print(item)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    for device in listed["devices"]:
        (line,) = (line for line in lines if line.split()[:1] == [device["name"]])
        limits = line.split()[-len(device["limits"]) - 1 :]
        assert all(number.rstrip("%").isdecimal() for number in limits)


def test_an_alias_says_what_it_stands_for(privynet: Run) -> None:
    shown = privynet("devices", "show", "phone-low-end").out
    assert shown.startswith("phone-low-end stands for snapdragon-410: ")
    document = privynet("devices", "show", "phone-low-end", "--json").json
    assert (document["profile"]["name"], document["alias"]["name"]) == ("snapdragon-410", "phone-low-end")
    assert privynet("devices", "show", "snapdragon-410", "--json").json["alias"] is None


def figures(section: dict[str, Any], within: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """What has a source, by its dotted key."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from [(within + key, value)] if "source" in value else figures(value, f"{within}{key}.")


@pytest.mark.parametrize("profile", catalogue(), ids=lambda profile: profile.name)
def test_every_figure_is_shown_with_its_source(privynet: Run, profile: DeviceProfile) -> None:
    name = profile.name
    shown = " ".join(privynet("devices", "show", name).out.split())
    document = privynet("devices", "show", name, "--json").json["profile"]
    found = dict(figures(document))
    assert {
        "cores",
        "memory_mb",
        "threads",
        f"latency.float32.{profile.threads}.median_error",
    } <= found.keys()
    for key, figure in found.items():
        assert f" {key} {figure['value']:g}" in shown
        assert figure["source"] in shown
    for limit in document["limits"].values():
        assert all(word in shown for word in limit["reason"].split())


def test_validate_lists_what_is_wrong_by_line(privynet: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        TEXT.replace("title =", "titel =").replace('unit = "MB"', 'unit = "GB"'), encoding="utf-8"
    )
    shown = privynet("devices", "validate", path)
    assert shown.code == 2
    assert "did you mean title?" in shown.out and "give it in MB" in shown.out
    assert f"{path}:3: unknown key titel; did you mean title?" in shown.error
    assert privynet("devices", "validate", CATALOGUE / "raspberry-pi-5.toml").code == 0
