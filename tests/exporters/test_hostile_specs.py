"""Specs that nobody should believe: refused with a finding, in bounded time and memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .hostile import checked_within_limits, reseal

Document = dict[str, object]


def edited(change: Callable[[Document], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return edit


CASES: dict[str, tuple[Callable[[str], str], str]] = {
    "a million brackets": (lambda text: "[" * 1_000_000, "not a JSON object"),
    "a quarter of a million wrong channels": (
        edited(lambda document: document.update(channels=[""] * 250_000)),
        "not an encoder spec: channels.0",
    ),
    "other channels": (edited(lambda document: document.update(channels=[1, 2])), "number of channels is 2"),
    "another cut": (edited(lambda document: document.update(cut="blocks.0.0")), "digest is"),
    "a huge input": (edited(lambda document: document.update(input_size=10**4000)), "digest is"),
    "a key of another line": (
        edited(lambda document: document.update({"\x1b[2Jevil\nerror: all is well": 1})),
        "?[2Jevil?error: all is well",
    ),
    "a file of this machine": (
        edited(lambda document: document.update(weights="/etc/passwd")),
        "names files of the machine",
    ),
    "numbers that are none": (
        edited(lambda document: document.update(mean=[1e308, 0, float("inf")])),
        "digest is",
    ),
    "nothing": (lambda text: "{}", "not an encoder spec"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_within_limits(small: Path, tmp_path: Path, case: str) -> None:
    change, message = CASES[case]
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    (copy / "encoder.json").write_text(change((copy / "encoder.json").read_text()))
    reseal(copy)
    found = checked_within_limits(copy)["findings"]
    assert {one["file"] for one in found} == {"encoder.json"}
    assert {one["code"] for one in found} <= {"spec", "integrity"}
    assert any(message in one["message"] for one in found), found
    assert all(one["message"].isprintable() for one in found)
