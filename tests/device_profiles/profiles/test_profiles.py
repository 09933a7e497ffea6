"""Finding profiles, and what the shipped ones hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from privynet import device_profiles
from privynet.device_profiles import catalogue, load_profile, validate_profile
from privynet.errors import InputError

SHIPPED = Path(device_profiles.__file__).parent / "catalogue"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED / "raspberry-pi-4b.toml", tmp_path / "mine.toml"))


def test_a_profile_is_found_by_name_and_by_path(copy: Path) -> None:
    assert load_profile("raspberry-pi-4b").name == "raspberry-pi-4b"
    assert load_profile(str(copy)) == load_profile("raspberry-pi-4b")


def test_an_unknown_device_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown device 'raspberry-pi-4'; did you mean raspberry-pi-4b"):
        load_profile("raspberry-pi-4")


@pytest.mark.parametrize("name", ["missing.toml", "./missing", "/"])
def test_a_file_that_cannot_be_read_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match="cannot read the device profile"):
        load_profile(name)


def test_bytes_that_are_not_text_are_an_input_error(copy: Path) -> None:
    copy.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_profile(str(copy))


def test_a_profile_cannot_be_changed() -> None:
    profile = load_profile("raspberry-pi-4b")
    with pytest.raises(ValidationError):
        profile.title = "another"


def test_the_document_says_what_the_file_says() -> None:
    document = json.loads(json.dumps(load_profile("raspberry-pi-4b").document()))
    assert document["class"] == "board"
    assert document["memory_mb"]["source"].startswith("Raspberry Pi Ltd")
    assert document["limits"]["latency_ms"]["value"] == load_profile("raspberry-pi-4b").limits["latency_ms"]


def figures(section: object) -> Iterator[dict[str, object]]:
    if isinstance(section, dict):
        if "value" in section:
            yield section
        for inner in section.values():
            yield from figures(inner)


@pytest.mark.parametrize("profile", catalogue(), ids=lambda profile: profile.name)
def test_every_shipped_figure_has_a_source_and_every_limit_a_reason(
    profile: device_profiles.DeviceProfile,
) -> None:
    assert validate_profile(SHIPPED / f"{profile.name}.toml") == []
    document = profile.document()
    assert len(document["limits"]) >= 4
    for limit in document.pop("limits").values():
        assert len(str(limit["reason"]).split()) >= 5
    found = list(figures(document))
    assert len(found) >= 12
    for figure in found:
        assert str(figure["source"]).strip()
        assert figure["unit"]
        assert figure["kind"] in ("measured", "published", "estimated")
    assert {figure["kind"] for figure in figures(document["latency"])} == {"estimated"}


def test_the_catalogue_goes_from_small_to_large() -> None:
    names = [profile.name for profile in catalogue()]
    assert len(names) >= 8
    assert names == sorted(names)
    assert {profile.device_class for profile in catalogue()} == {"board", "phone"}


def test_reading_a_profile_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from privynet.device_profiles import bench, load_profile\n"
        "load_profile('raspberry-pi-4b')\n"
        "sys.exit(bool({'torch', 'onnx', 'onnxruntime', 'scipy'} & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
