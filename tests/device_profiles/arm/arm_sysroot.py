"""A 64-bit Arm system that runs here without a board: Debian's Python and ONNX Runtime under qemu-user.

It lies in the user's cache and is made once: Debian's arm64 packages and the aarch64 wheels of the versions
in ``constraints.txt``, through the machine's own apt and pip. Nothing is installed on the machine itself, and
root is not needed. ``SYSROOT/python-arm64`` is its Python, to be called like any other. What it computes is
what an Arm processor computes; how long it takes says nothing about one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

QEMU = "qemu-aarch64-static"
PROGRAMS = (QEMU, "apt-get", "dpkg-deb")
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
# glibc 2.36 is that of the oldest Debian whose Python is new enough.
_PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37))]
_PATIENCE_S = 600

# ONNX Runtime looks there for the processor, and ends its process where it finds none that is an Arm.
_PROCESSOR = {
    "proc/cpuinfo": (
        "processor\t: 0\n"
        "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\n"
        "CPU implementer\t: 0x41\n"
        "CPU architecture: 8\n"
        "CPU variant\t: 0x0\n"
        "CPU part\t: 0xd08\n"
        "CPU revision\t: 3\n\n"
        "Hardware\t: QEMU user mode, Cortex-A72\n"
    ),
    "sys/devices/system/cpu/possible": "0\n",
    "sys/devices/system/cpu/present": "0\n",
}

# Python finds its library by the path it was called with, so that this works in isolated mode, too.
_WRAPPER = f"""#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec {QEMU} -cpu cortex-a72 -L "$here" "$here/usr/bin/python3" "$@"
"""


def missing_programs() -> list[str]:
    """The programs without which there can be no such system."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def arm_python() -> Path:
    """``python-arm64`` of the system, which is made if it is not there; seconds, tens of MB to fetch.

    Raises ``RuntimeError`` with what apt or pip said, for example without a network.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "privynet-tests"
    caches.mkdir(parents=True, exist_ok=True)
    # Another release of Debian, other pins or another recipe make another system.
    recipe = [Path("/etc/os-release").read_bytes(), CONSTRAINTS.read_bytes(), Path(__file__).read_bytes()]
    sysroot = caches / f"arm64-{hashlib.sha256(b''.join(recipe)).hexdigest()[:16]}"
    with (caches / "arm64.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not sysroot.exists():
            with tempfile.TemporaryDirectory(dir=caches, prefix="arm64-unfinished-") as folder:
                _make(Path(folder) / "root", Path(folder) / "apt")
                (Path(folder) / "root").rename(sysroot)
    return sysroot / "python-arm64"


def _make(root: Path, apt: Path) -> None:
    root.mkdir()
    for package in _fetch_packages(apt):
        _call("dpkg-deb", "--extract", str(package), str(root))
    if not (root / "lib").exists():  # Debian 13 has everything in usr and lets another package make the link
        (root / "lib").symlink_to("usr/lib")
    for name, text in _PROCESSOR.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    # A link to python3.11 or a later one.
    version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    _call(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--constraint", str(CONSTRAINTS), "--only-binary=:all:", "--python-version", version),
        *(option for platform in _PLATFORMS for option in ("--platform", platform)),
        *("--no-compile", "--target", str(root / "usr/lib/python3/dist-packages"), "onnxruntime", "pillow"),
    )
    wrapper = root / "python-arm64"
    wrapper.write_text(_WRAPPER)
    wrapper.chmod(0o755)
    # The first import compiles what later ones read; and what cannot do it never gets its name.
    _call(str(wrapper), "-I", "-c", "import onnxruntime, PIL.Image")


def _fetch_packages(folder: Path) -> list[Path]:
    """The packages and all they need, from the machine's own sources but with a state of its own."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    options = [
        "APT::Architecture=arm64",
        "APT::Architectures=arm64",
        f"Dir::State={folder / 'state'}",
        f"Dir::State::status={folder / 'state/status'}",
        f"Dir::Cache={folder / 'cache'}",
        "Acquire::Languages=none",
        "APT::Sandbox::User=",  # who cannot read the user's cache
        "Debug::NoLocking=1",
    ]
    apt = ["apt-get", "--quiet", *(word for option in options for word in ("-o", option))]
    # A source without arm64 packages fails here and does not matter, unless it was the only one.
    _call(*apt, "update", check=False)
    _call(*apt, "install", "--yes", "--no-install-recommends", "--download-only", *PACKAGES)
    return sorted((folder / "cache/archives").glob("*.deb"))


def _call(*command: str, check: bool = True) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
