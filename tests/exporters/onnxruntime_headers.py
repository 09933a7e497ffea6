"""ONNX Runtime's C++ headers, from Debian's package, for the library that lies in the Python wheel.

They are of an older release than the library, which knows all earlier ones' interfaces.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ..debian import extract, made_once, package_of_release

PROGRAMS = ("g++", "apt-get", "dpkg-deb")
_PACKAGE = "libonnxruntime-dev"
_RELEASE = "trixie"
"""The first that has it."""


def missing_programs() -> list[str]:
    """The programs without which C++ cannot be compiled here."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def headers() -> Path:
    """The folder of ``onnxruntime_cxx_api.h``, fetched if it is not there.

    Raises ``RuntimeError`` with what apt said, for example without a network.
    """
    root = made_once("onnxruntime-headers", [Path(__file__)], _make)
    return root / "usr/include/onnxruntime"


def _make(root: Path, scratch: Path) -> None:
    extract(package_of_release(_PACKAGE, _RELEASE, scratch), root)
