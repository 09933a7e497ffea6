"""Output folders appear complete or not at all; a run folder is one of them."""

import errno
import os
import stat

import pytest

from privynet.artifacts import RunFolder, new_folder, read_document, write_document
from privynet.errors import InputError, PrivynetError


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_takes_its_name_at_the_end(tmp_path):
    out = tmp_path / "deep" / "out"
    with new_folder(out) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
        assert folder.parent == out.parent
    assert (out / "a").read_text() == "1"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(tmp_path, failure):
    with pytest.raises(failure), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
        raise failure
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(PrivynetError, match="no space left while writing"),
        new_folder(tmp_path / "out") as folder,
    ):
        (folder / "a").write_text("1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_existing_path_is_refused_and_kept(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.touch()
    else:
        out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"exists.*--force"), new_folder(out):
        pytest.fail("the folder was opened")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_force_replaces_what_privynet_wrote(tmp_path):
    out = tmp_path / "out"
    for value in (1, 2):
        with new_folder(out, force=True) as folder:
            write_document(folder / "head.json", "head", {"value": value})
            (folder / f"only-{value}").touch()
    assert read_document(out / "head.json", "head")["value"] == 2
    assert sorted(file.name for file in out.iterdir()) == ["head.json", "only-2"]
    assert list(tmp_path.iterdir()) == [out]


def test_force_that_fails_keeps_the_old_folder(tmp_path):
    out = tmp_path / "out"
    with new_folder(out) as folder:
        write_document(folder / "head.json", "head", {"value": 1})
    with pytest.raises(RuntimeError), new_folder(out, force=True):
        raise RuntimeError
    assert read_document(out / "head.json", "head")["value"] == 1
    assert list(tmp_path.iterdir()) == [out]


def test_force_does_not_delete_what_privynet_did_not_write(tmp_path):
    out = tmp_path / "home"
    out.mkdir()
    (out / "package.json").write_text('{"kind": "other"}')
    with pytest.raises(InputError, match="was not written by privynet"), new_folder(out, force=True):
        pytest.fail("the folder was opened")
    assert (out / "package.json").exists()


def test_force_does_not_follow_a_link(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(InputError, match="not a folder"), new_folder(tmp_path / "link", force=True):
        pytest.fail("the folder was opened")


def test_path_that_appears_meanwhile_is_kept(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="exists"), new_folder(out):
        out.mkdir()
        (out / "theirs").touch()
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "theirs"]


def test_parent_that_is_a_file_is_bad_input(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), new_folder(tmp_path / "file" / "out"):
        pytest.fail("the folder was opened")


def test_private_folder_is_for_its_owner_only(tmp_path):
    before = os.umask(0o022)
    try:
        with new_folder(tmp_path / "private", private=True):
            pass
        with new_folder(tmp_path / "public"):
            pass
    finally:
        os.umask(before)
    assert (mode(tmp_path / "private"), mode(tmp_path / "public")) == (0o700, 0o755)


def test_run_folder_keeps_its_inputs_and_is_private(tmp_path):
    inputs = {"data": "digits", "limits": {"r2": 0.5}, "backbones": ("bundled:a",)}
    created = RunFolder.create(tmp_path / "run", inputs)
    assert created == RunFolder.open(tmp_path / "run")
    assert created.inputs == {"data": "digits", "limits": {"r2": 0.5}, "backbones": ["bundled:a"]}
    assert mode(created.path) == mode(created.cache) == 0o700
    assert created.secret.parent == created.journal.parent == created.path


def test_existing_run_is_not_created_again(tmp_path):
    RunFolder.create(tmp_path / "run", {"trials": 1})
    with pytest.raises(InputError, match="exists"):
        RunFolder.create(tmp_path / "run", {"trials": 2})
    assert RunFolder.create(tmp_path / "run", {"trials": 3}, force=True).inputs == {"trials": 3}


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder.open(tmp_path)
    write_document(tmp_path / "run.json", "result", {})
    with pytest.raises(InputError, match="expected a privynet run"):
        RunFolder.open(tmp_path)
    write_document(tmp_path / "run.json", "run", {"inputs": 3})
    with pytest.raises(InputError, match="has no inputs"):
        RunFolder.open(tmp_path)


def test_run_of_another_schema_version_is_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", {})
    mark = run.path / "run.json"
    mark.write_text(mark.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    with pytest.raises(InputError, match="schema version 7, this privynet reads 1"):
        RunFolder.open(run.path)
