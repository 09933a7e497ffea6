"""A 64-bit Arm system that runs here without a board: Debian's Python and ONNX Runtime under qemu-user.

It is made once, of Debian's arm64 packages and the aarch64 wheels of the versions in ``constraints.txt``,
through the machine's own apt and pip. ``SYSROOT/python-arm64`` is its Python, to be called like any other.
What it computes is what an Arm processor computes; how long it takes says nothing about one.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ...debian import call, extract, made_once, packages_with_dependencies

QEMU = "qemu-aarch64-static"
PROGRAMS = (QEMU, "apt-get", "dpkg-deb")
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
# glibc 2.36 is that of the oldest Debian whose Python is new enough.
_PLATFORMS = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 37))]

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
    sysroot = made_once("arm64", [CONSTRAINTS, Path(__file__)], _make)
    return sysroot / "python-arm64"


def _make(root: Path, scratch: Path) -> None:
    for package in packages_with_dependencies(PACKAGES, "arm64", scratch):
        extract(package, root)
    if not (root / "lib").exists():  # Debian 13 has everything in usr and lets another package make the link
        (root / "lib").symlink_to("usr/lib")
    for name, text in _PROCESSOR.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    # A link to python3.11 or a later one.
    version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    call(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--constraint", str(CONSTRAINTS), "--only-binary=:all:", "--python-version", version),
        *(option for platform in _PLATFORMS for option in ("--platform", platform)),
        *("--no-compile", "--target", str(root / "usr/lib/python3/dist-packages"), "onnxruntime", "pillow"),
    )
    wrapper = root / "python-arm64"
    wrapper.write_text(_WRAPPER)
    wrapper.chmod(0o755)
    # The first import compiles what later ones read; and what cannot do it never gets its name.
    call(str(wrapper), "-I", "-c", "import onnxruntime, PIL.Image")
