"""Documents come back as written, or are refused in one line."""

import json
import math
import os
import stat
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privynet.artifacts import read_document, write_document
from privynet.errors import InputError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(body=st.dictionaries(st.text(), JSON, max_size=4))
def test_body_comes_back(tmp_path_factory, body):
    path = tmp_path_factory.getbasetemp() / "document.json"
    write_document(path, "result", body)
    found = read_document(path, "result")
    header = {"schema_version": 1, "kind": "result", "tool_version": version("privynet")}
    assert found == {**body, **header}


def test_bytes_do_not_depend_on_the_order_of_keys(tmp_path):
    write_document(tmp_path / "a.json", "result", {"b": {"y": 1, "x": 2}, "a": 3})
    write_document(tmp_path / "b.json", "result", {"a": 3, "b": {"x": 2, "y": 1}})
    data = (tmp_path / "a.json").read_bytes()
    assert data == (tmp_path / "b.json").read_bytes()
    assert data.endswith(b"}\n")


def test_numpy_figures_are_plain_numbers(tmp_path):
    write_document(
        tmp_path / "a.json", "result", {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)}
    )
    assert (json.loads((tmp_path / "a.json").read_text()).items()) >= {"a": 0.5, "b": 3, "c": True}.items()


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan")])
def test_figure_that_is_not_finite_leaves_no_file(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_document(tmp_path / "a.json", "result", {"a": value})
    assert list(tmp_path.iterdir()) == []


def test_missing_document_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_document(tmp_path / "nowhere.json", "result")
    with pytest.raises(InputError, match="cannot read"):
        read_document(tmp_path, "result")


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match="not a JSON object"):
        read_document(tmp_path / "a.json", "result")


def test_another_kind_and_another_version_are_refused(tmp_path):
    path = tmp_path / "a.json"
    write_document(path, "result", {})
    with pytest.raises(InputError, match=r"kind 'result'.*expected a privynet bench"):
        read_document(path, "bench")
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(InputError, match="schema version 2, this privynet reads 1"):
        read_document(path, "result")


def test_private_document_is_for_its_owner_only(tmp_path):
    path = tmp_path / "secret.json"
    write_document(path, "secret", {})
    write_document(path, "secret", {}, private=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("place", ["nowhere/a.json", "file/a.json", "folder"])
def test_place_that_cannot_be_written_is_bad_input(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_document(tmp_path / place, "result", {})
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


WRITE = """
import pathlib, sys
from privynet.artifacts import write_document
from privynet.errors import PrivynetError
if sys.argv[2] == "limited":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_document(pathlib.Path(sys.argv[1]), "result", {"new": "x" * 4_000_000})
except PrivynetError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def write_too_much(path, how):
    return subprocess.run(
        [sys.executable, "-c", WRITE, path, how], capture_output=True, text=True, env=os.environ
    )


def test_document_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    write_document(path, "result", {"old": 1})
    found = write_too_much(path, "limited")
    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout == f"no space left while writing {path}; free some space or write to another disk\n"
    assert read_document(path, "result")["old"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # A disk of one megabyte of our own; where mounting is not allowed, the test above still holds.
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        return
    try:
        found = write_too_much(disk / "a.json", "unlimited")
        assert (found.returncode, found.stderr) == (1, "")
        assert "no space left" in found.stdout
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)
