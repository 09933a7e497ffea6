"""A profile that is written is the one that is read back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.device_profiles import CATALOGUE, METRICS, DeviceProfile, catalogue, load_profile, write_profile
from privynet.errors import InputError

words = st.text(min_size=1, max_size=30).filter(str.strip)
numbers = st.floats(min_value=1e-300, max_value=1e300) | st.integers(1, 10**20).map(float)


def figures(section: Any) -> Iterator[dict[str, Any]]:
    if isinstance(section, dict):
        if "value" in section:
            yield section
        for inner in section.values():
            yield from figures(inner)


@st.composite
def profiles(draw: st.DrawFn) -> DeviceProfile:
    """Shipped profiles with other texts and figures, and any of the nine limits."""
    document = draw(st.sampled_from(catalogue())).document()
    limited = draw(st.sets(st.sampled_from(list(METRICS))))
    limit = st.fixed_dictionaries({"value": numbers, "reason": words})
    for figure in figures(document["latency"]):
        figure |= {"value": draw(numbers), "source": draw(words)}
        if "low" in figure:
            low, value, high = sorted(draw(st.tuples(numbers, numbers, numbers)))
            figure |= {"low": low, "value": value, "high": high}
    document["memory_mb"] |= {"value": draw(numbers), "source": draw(words)}
    document |= {key: draw(words) for key in ("title", "core_type", "runtime")}
    document["limits"] = {metric: draw(limit) for metric in limited}
    return DeviceProfile.model_validate(document)


@settings(deadline=None, max_examples=40)
@given(profiles())
def test_what_was_written_is_read_back_the_same(profile: DeviceProfile) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        write_profile(profile, path)
        assert load_profile(str(path)) == profile
        assert [found.name for found in Path(folder).iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("profile", catalogue(), ids=lambda profile: profile.name)
def test_the_catalogue_is_in_the_style_that_is_written(profile: DeviceProfile, tmp_path: Path) -> None:
    write_profile(profile, tmp_path / "again.toml")
    shipped = (CATALOGUE / f"{profile.name}.toml").read_text(encoding="utf-8")
    assert (tmp_path / "again.toml").read_text(encoding="utf-8") == shipped


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"mine\.toml exists; --force replaces it"):
        write_profile(catalogue()[0], path)
    assert path.read_text() == "mine"
    write_profile(catalogue()[0], path, force=True)
    assert load_profile(str(path)) == catalogue()[0]


def test_a_folder_that_does_not_exist_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; make it first"):
        write_profile(catalogue()[0], tmp_path / "nowhere" / "mine.toml")
