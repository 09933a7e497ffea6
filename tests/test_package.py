"""The wheel: whole, and working away from the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "artifacts",
    "cloud",
    "data",
    "defences",
    "device_profiles",
    "encoders",
    "exporters",
    "leakage",
    "search",
    "toolkit",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what belongs to the package, so that no stale build folder helps it."""
    import shutil

    source = tmp_path_factory.mktemp("source") / "checkout"
    source.mkdir()
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "py.typed"):
        shutil.copy(ROOT / name, source)
    for module in ROOT.glob("*.py"):
        shutil.copy(module, source)
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def tracked_files() -> set[str]:
    """Every module and data file of the rooms."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    found += [*ROOT.glob("*.py"), ROOT / "py.typed"]
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


def test_every_module_and_data_file_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name.removeprefix("privynet/") for name in archive.namelist() if name.startswith("privynet/")
        }
    assert packed == tracked_files()


def test_every_folder_of_the_package_is_a_room_that_is_tested() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(ROOMS)


def run_installed(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_it_runs_from_there(installed: Path, tmp_path: Path) -> None:
    shown = run_installed(installed, tmp_path, "-m", "privynet.toolkit.main", "--version")
    assert (shown.returncode, shown.stdout) == (0, f"privynet {version('privynet')}\n"), shown.stderr
    where = run_installed(installed, tmp_path, "-c", "import privynet; print(privynet.__file__)")
    assert where.stdout.strip() == str(installed / "privynet" / "__init__.py")


def test_its_data_files_are_found(installed: Path, tmp_path: Path) -> None:
    shown = run_installed(installed, tmp_path, "-m", "privynet.toolkit.main", "cuts", "bundled", "--json")
    assert shown.returncode == 0, shown.stderr
    shown = run_installed(installed, tmp_path, "-m", "privynet.toolkit.main", "devices", "list")
    assert "raspberry-pi-4b" in shown.stdout
    page = "from privynet.toolkit import report; print(report.__file__)"
    folder = Path(run_installed(installed, tmp_path, "-c", page).stdout.strip()).parent
    assert (folder / "templates" / "report.html").is_file()
