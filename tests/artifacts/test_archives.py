"""An artifact as one zip: the same as its folder, and in one form only."""

from __future__ import annotations

import gc
import io
import os
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.artifacts import Artifact, BrokenArtifact, new_artifact, seal
from privynet.errors import InputError, NegativeResult, PrivynetError

from .conftest import BODY, write_members

MEMBERS = ["README.md", "encoder.json", "encoder.onnx", "manifest.json", "selftest.npz"]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def write(out: Path, *, force: bool = False) -> Path:
    with new_artifact(out, force=force) as folder:
        write_members(folder)
        seal(folder, BODY)
    return out


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    return write(tmp_path / "artifact.zip")


def contents(packed: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(packed) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def directory(data: bytes) -> int:
    """Where the directory begins: a self-test has one too."""
    (start,) = struct.unpack("<L", data[-6:-2])
    return int(start)


def repacked(out: Path, members: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None]) -> Path:
    """A zip by another tool, made to look as much as possible like ours, with ``change`` for each member."""
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            change(info)
            archive.writestr(info, data)
    return out


def test_it_opens_as_its_folder_does_and_leaves_nothing_behind(
    packed: Path, artifact: Path, temporary: Path
) -> None:
    opened, plain = Artifact.open(packed), Artifact.open(artifact)
    assert (opened.manifest, opened.spec) == (plain.manifest, plain.spec)
    assert opened.model.read_bytes() == plain.model.read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(opened.session().encode(images), plain.session().encode(images))
    assert stat.S_IMODE(opened.folder.stat().st_mode) == 0o700
    del opened
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_process_that_ends_leaves_nothing_behind(packed: Path, temporary: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from privynet.artifacts import Artifact;"
        "kept = Artifact.open(Path(sys.argv[1])); print(kept.model.exists())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, packed],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n" and list(temporary.iterdir()) == []


def test_other_tools_read_it(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.namelist() == MEMBERS and archive.testzip() is None
        for info in archive.infolist():
            assert (info.date_time, info.external_attr >> 16) == ((1980, 1, 1, 0, 0, 0), 0o100644)
    assert contents(packed)["README.md"] == b"An encoder.\n"


def test_the_same_members_give_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    os.utime(packed, (0, 0))
    assert write(tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_a_zip_by_another_tool_in_exactly_our_form_is_ours(packed: Path, tmp_path: Path) -> None:
    other = repacked(tmp_path / "other.zip", contents(packed), lambda info: None)
    assert other.read_bytes() == packed.read_bytes()


@settings(max_examples=150, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_any_changed_byte_is_refused(
    tmp_path_factory: pytest.TempPathFactory, place: float, change: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.zip"
    data = bytearray(write(path, force=path.exists()).read_bytes())
    data[int(place * len(data))] ^= change
    path.write_bytes(data)
    with pytest.raises((NegativeResult, InputError)):
        Artifact.open(path)
    path.unlink()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_cut_or_longer_zip_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.zip"
    whole = write(path, force=path.exists()).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    more = data.draw(st.binary(min_size=1, max_size=40))
    changed = data.draw(
        st.sampled_from([whole[:at] if at < len(whole) else b"", whole[:at] + more + whole[at:]])
    )
    path.write_bytes(changed)
    with pytest.raises((NegativeResult, InputError)):
        Artifact.open(path)
    path.unlink()


def compressed(info: zipfile.ZipInfo) -> None:
    info.compress_type = zipfile.ZIP_DEFLATED


def linked(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def dated(info: zipfile.ZipInfo) -> None:
    info.date_time = (2026, 1, 2, 3, 4, 6)


def commented(info: zipfile.ZipInfo) -> None:
    info.comment = b"hello"


def with_extra(info: zipfile.ZipInfo) -> None:
    info.extra = b"\x99\x99\x04\x00more"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (compressed, "is compressed"),
        (linked, "is not a plain file"),
        (dated, "not as privynet writes it"),
        (commented, "before, beside or after|not as privynet writes it"),
        (with_extra, "before, beside or after|not as privynet writes it"),
    ],
)
def test_members_of_another_kind_are_refused(
    packed: Path, tmp_path: Path, change: Callable[[zipfile.ZipInfo], None], reason: str
) -> None:
    other = repacked(tmp_path / "other.zip", contents(packed), change)
    with pytest.raises(BrokenArtifact, match=reason):
        Artifact.open(other)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../README.md",
        "..\\README.md",
        "C:\\README.md",
        "README.md/",
        "./README.md",
        "artifact/README.md",
        "encoder.onnx.data",
        "README.md\0.exe",
        "\x1b[31mREADME.md",
        "",
    ],
)
def test_foreign_names_are_refused(packed: Path, tmp_path: Path, name: str) -> None:
    members = contents(packed)
    # zipfile cuts and turns such names itself: it gets one of the same length.
    place = "x" * len(name)
    other = repacked(tmp_path / "other.zip", {place: b"", **members}, lambda info: None)
    other.write_bytes(
        other.read_bytes().replace(place.encode(), name.encode()) if name else other.read_bytes()
    )
    with pytest.raises(BrokenArtifact, match="does not belong to it") as caught:
        Artifact.open(other)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "README.md").exists()


def test_encrypted_members_are_refused(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[6] |= 1
    data[directory(data) + 8] |= 1
    packed.write_bytes(data)
    with pytest.raises(BrokenArtifact, match="is encrypted"):
        Artifact.open(packed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_are_refused(packed: Path, tmp_path: Path) -> None:
    members = contents(packed)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        for name, data in [*members.items(), ("README.md", b"another")]:
            archive.writestr(zipfile.ZipInfo(name), data)
    with pytest.raises(BrokenArtifact, match="more than once"):
        Artifact.open(tmp_path / "other.zip")


def test_members_out_of_order_are_refused(packed: Path, tmp_path: Path) -> None:
    members = dict(reversed(contents(packed).items()))
    other = repacked(tmp_path / "other.zip", members, lambda info: None)
    with pytest.raises(BrokenArtifact, match="not as privynet writes it"):
        Artifact.open(other)


def test_overlapping_members_are_refused(packed: Path) -> None:
    """Two entries of the directory that read the same bytes."""
    data = bytearray(packed.read_bytes())
    first = directory(data)
    second = data.index(b"PK\x01\x02", first + 1)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    packed.write_bytes(data)
    with pytest.raises(BrokenArtifact, match="not as privynet writes it"):
        Artifact.open(packed)


@pytest.mark.parametrize("where", ["before", "after", "between"])
def test_data_that_no_member_holds_is_refused(packed: Path, where: str) -> None:
    data = packed.read_bytes()
    start = directory(data)
    changed = {
        "before": b"#!/bin/sh\n" + data,
        "after": data + b"more",
        "between": data[:start] + b"hidden" + data[start:],
    }[where]
    packed.write_bytes(changed)
    refused = InputError if where == "before" else BrokenArtifact
    with pytest.raises(refused):
        Artifact.open(packed)


def test_a_bomb_is_refused_by_what_it_declares(packed: Path, tmp_path: Path) -> None:
    """Compressed members are not inflated, stored ones cannot be larger than the zip they lie in."""
    members = {**contents(packed), "README.md": bytes(2**27)}
    bomb = repacked(tmp_path / "bomb.zip", members, compressed)
    assert bomb.stat().st_size < 2**20
    with pytest.raises(BrokenArtifact, match="more than the 1048576 allowed"):
        Artifact.open(bomb)
    data = bytearray(packed.read_bytes())
    at = directory(data)
    struct.pack_into("<LL", data, at + 20, 2**20, 2**20)
    packed.write_bytes(data)
    with pytest.raises(BrokenArtifact, match="not as privynet writes it"):
        Artifact.open(packed)


def test_more_entries_than_there_are_members_are_refused_before_they_are_read(
    packed: Path, tmp_path: Path
) -> None:
    members = {**contents(packed), **{f"{number}.txt": b"" for number in range(30)}}
    other = repacked(tmp_path / "many.zip", members, lambda info: None)
    with pytest.raises(BrokenArtifact, match="holds 35 members"):
        Artifact.open(other)


def test_a_header_that_tells_otherwise_than_the_directory_is_refused(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[30:39] = b"README.mf"
    packed.write_bytes(data)
    with pytest.raises(BrokenArtifact, match="told otherwise"):
        Artifact.open(packed)


def test_what_is_damaged_leaves_no_files(packed: Path, temporary: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[data.index(b"An encoder")] ^= 1
    packed.write_bytes(data)
    with pytest.raises(BrokenArtifact, match="checksum"):
        Artifact.open(packed)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_of_something_else_is_no_artifact(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w", compression) as archive:
        for number in range(1000):
            archive.writestr(f"{number}.txt", b"x")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    np.savez(tmp_path / "arrays.npz", images=np.zeros(3))
    for name in ("other.zip", "empty.zip", "arrays.npz"):
        with pytest.raises(InputError, match=r"neither a folder nor a zip with a manifest\.json"):
            Artifact.open(tmp_path / name)


def test_an_existing_zip_is_kept_unless_force_replaces_one_of_ours(packed: Path, tmp_path: Path) -> None:
    before = packed.read_bytes()
    with pytest.raises(InputError, match="--force"):
        write(packed)
    assert packed.read_bytes() == before
    write(packed, force=True)
    assert packed.read_bytes() == before
    for name, content in (("text.zip", b"mine"), ("cut.zip", before[:-3])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="was not written by privynet"):
            write(tmp_path / name, force=True)
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "link.zip").symlink_to(packed)
    for name in ("folder.zip", "link.zip"):
        with pytest.raises(InputError, match="is not a file"):
            write(tmp_path / name, force=True)
    with pytest.raises(InputError, match="is not a folder"), new_artifact(packed.with_suffix(""), force=True):
        packed.rename(packed.with_suffix(""))


def test_a_failure_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_artifact(tmp_path / "new.zip") as folder:
        write_members(folder)
        raise ZeroDivisionError
    assert sorted(file.name for file in tmp_path.iterdir()) == ["temporary"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys, pathlib; from privynet.artifacts import new_artifact\n"
        "with new_artifact(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'README.md').write_bytes(bytes(4000))\n"
        "    (folder / 'encoder.json').write_bytes(bytes(4000))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "new.zip"], capture_output=True, text=True, check=False
    )
    assert f"{PrivynetError.__name__}: no space left while writing" in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["temporary"]


def test_a_folder_packed_by_zip_is_refused_with_the_way_out(artifact: Path, tmp_path: Path) -> None:
    """What most tools do: compressed, dated, in any order."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in artifact.iterdir():
            archive.write(member, member.name)
    (tmp_path / "other.zip").write_bytes(stream.getvalue())
    with pytest.raises(BrokenArtifact, match="unpack it and give the folder"):
        Artifact.open(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "other.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    Artifact.open(tmp_path / "unpacked")
