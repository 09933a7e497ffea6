"""What is particular to this machine: programs and files are where the user sees them."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest

from privynet.device_profiles.targets import open_target
from privynet.errors import InputError


@pytest.mark.parametrize("python", ["venv/bin/python", "~/venv/bin/python", "python"])
def test_a_python_is_looked_for_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    """A virtual environment's knows by its path what it is."""
    venv.create(tmp_path / "venv", symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "venv/bin"))
    with open_target("local", python=python) as target:
        command = [*target.python, "-c", "import sys; print(sys.prefix)"]
        with target.run(command) as running:
            (line,) = running.lines(30.0)
    assert Path(line.decode().strip()) == tmp_path / "venv"


@pytest.mark.parametrize("python", ["absent/python", "absent", "~nobody-of-that-name/python"])
def test_a_python_that_is_not_there_is_an_input_error(python: str) -> None:
    expected = f"{python} cannot be run: No such file or directory"
    with (
        open_target("local", python=python) as target,
        pytest.raises(InputError, match=expected),
        target.run([*target.python, "-V"]),
    ):
        pass


def test_a_link_stays_where_it_is(tmp_path: Path) -> None:
    """Beside what belongs to it: a model's weights, a library's other names."""
    (tmp_path / "kept").touch()
    link = tmp_path / "folder" / "model.onnx"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "kept")
    with open_target("local") as target:
        assert target.put(link) == str(link)
