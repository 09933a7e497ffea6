"""Reading profiles: what a damaged file gets. The files are corrupted copies of the shipped ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from privynet import device_profiles
from privynet.device_profiles import catalogue, load_profile, validate_profile
from privynet.errors import InputError

SHIPPED = Path(device_profiles.__file__).parent / "catalogue"
TEXT = (SHIPPED / "raspberry-pi-4b.toml").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
KEY_LINES = [number for number, line in enumerate(LINES) if "=" in line]
VALUE_LINES = [number for number, line in enumerate(LINES) if re.match(r"(value|low|high) = [0-9]", line)]


def findings_of(text: str) -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.toml"
        path.write_text(text, encoding="utf-8")
        return validate_profile(path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED / "raspberry-pi-4b.toml", tmp_path / "mine.toml"))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


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


def test_text_that_is_not_toml_names_the_line(copy: Path) -> None:
    replace(copy, 'unit = "cores"', "unit = cores")
    (finding,) = validate_profile(copy)
    line = copy.read_text().splitlines().index("unit = cores") + 1
    assert (finding["code"], finding["line"]) == ("not-toml", line)
    with pytest.raises(InputError, match=rf"mine.toml:{line}: not TOML"):
        load_profile(str(copy))


@settings(deadline=None)
@given(st.sampled_from(KEY_LINES))
def test_every_key_is_required_and_named_when_it_is_missing(number: int) -> None:
    key = LINES[number].partition(" =")[0]
    findings = findings_of("\n".join(LINES[:number] + LINES[number + 1 :]))
    assert [finding["code"] for finding in findings] == ["missing-key"]
    assert f"{key} is missing" in str(findings[0]["message"])
    table = next((n for n in range(number, -1, -1) if LINES[n].startswith("[")), None)
    assert findings[0]["line"] == (None if table is None else table + 1)


@settings(deadline=None)
@given(st.sampled_from(VALUE_LINES), st.floats(min_value=-1e9, max_value=-1e-6))
def test_every_negative_figure_is_refused_on_its_line(number: int, negative: float) -> None:
    key = LINES[number].partition(" =")[0]
    changed = [*LINES[:number], f"{key} = {negative!r}", *LINES[number + 1 :]]
    findings = findings_of("\n".join(changed))
    assert ("negative-figure", number + 1) in [(finding["code"], finding["line"]) for finding in findings]
    assert all("\n" not in str(finding["message"]) for finding in findings)


@settings(deadline=None)
@given(st.sampled_from(KEY_LINES[1:]), st.sampled_from(["true", '""', "nan", "inf", "[]", "{}", '"4"']))
def test_a_value_of_the_wrong_type_never_passes_for_a_figure(number: int, value: str) -> None:
    key = LINES[number].partition(" =")[0]
    findings = findings_of("\n".join([*LINES[:number], f"{key} = {value}", *LINES[number + 1 :]]))
    if value != '"4"' or number in VALUE_LINES:
        assert [finding for finding in findings if finding["severity"] == "error"]


def test_an_unknown_key_is_answered_with_the_nearest(copy: Path) -> None:
    replace(copy, "runtime =", "runtimes =")
    finding = validate_profile(copy)[0]
    assert "unknown key runtimes, the nearest known one is runtime" in str(finding["message"])
    assert (
        finding["line"]
        == copy.read_text().splitlines().index('runtimes = "ONNX Runtime, CPU execution provider, float32"')
        + 1
    )


def test_a_figure_without_its_source_is_no_figure(copy: Path) -> None:
    copy.write_text("cores = 4\n" + re.sub(r"\[cores\]\n(.+\n)+", "", TEXT), encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.toml:1: cores is 4, but must be a table"):
        load_profile(str(copy))


def test_an_unknown_metric_is_answered_with_the_nearest(copy: Path) -> None:
    replace(copy, "[limits.latency_ms]", "[limits.latency]")
    (finding,) = validate_profile(copy)
    assert "did you mean latency_ms" in str(finding["message"])
    assert finding["line"] == copy.read_text().splitlines().index("[limits.latency]") + 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('unit = "MB"', 'unit = "GB"', "unit GB is not allowed, give it in MB"),
        ("value = 50", "value = 0", "limit latency_ms=0 cannot be met"),
        ("[threads]\nvalue = 4", "[threads]\nvalue = 5", "threads: more threads than cores"),
        ("[threads]\nvalue = 4", "[threads]\nvalue = 3", "no entry for the profile's 3 threads"),
        ("[cores]\nvalue = 4", "[cores]\nvalue = 4.5", "cores: the value must be a whole number"),
        ("[latency.scales.4]", "[latency.scales.four]", "latency.scales.four"),
        ("low = 1.5", "low = 1.9", "latency.runtime_factor: low <= value <= high does not hold"),
        ("schema_version = 1", "schema_version = 2", "schema_version: input should be 1"),
        ('class = "board"', 'class = "toaster"', "class: input should be 'board' or 'phone'"),
        ('name = "raspberry-pi-4b"', 'name = "../x"', "name: "),
        ('kind = "published"', 'kind = "guessed"', "cores.kind: input should be"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(copy: Path, old: str, new: str, told: str) -> None:
    replace(copy, old, new)
    messages = [str(finding["message"]) for finding in validate_profile(copy)]
    assert any(told in message for message in messages), messages
    with pytest.raises(InputError, match=r"mine\.toml:\d+: "):
        load_profile(str(copy))


def test_a_profile_without_limits_is_usable_and_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(re.sub(r"\[limits\.\w+\]\n(.+\n)+", "", TEXT), encoding="utf-8")
    (finding,) = validate_profile(path)
    assert (finding["code"], finding["severity"]) == ("no-limits", "warning")
    assert load_profile(str(path)).limits == {}


def test_a_profile_may_limit_privacy_loss_too(copy: Path) -> None:
    replace(copy, "[latency]\n", '[limits.r2]\nvalue = 0.3\nreason = "faces"\n\n[latency]\n')
    profile = load_profile(str(copy))
    assert profile.limits["r2"] == 0.3
    assert profile.limit_reasons["r2"] == "faces"


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
