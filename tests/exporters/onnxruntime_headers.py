"""ONNX Runtime's C++ headers, from Debian's package, for the library that lies in the Python wheel.

They lie in the user's cache and are fetched once, through the machine's own apt with a state of its own;
nothing is installed, and root is not needed. They are of an older release than the library, which knows all
earlier ones' interfaces.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = ("g++", "apt-get", "dpkg-deb")
_PACKAGE = "libonnxruntime-dev"
_SOURCE = """Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
_PATIENCE_S = 600


def missing_programs() -> list[str]:
    """The programs without which C++ cannot be compiled here."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def headers() -> Path:
    """The folder of ``onnxruntime_cxx_api.h``, fetched if it is not there.

    Raises ``RuntimeError`` with what apt said, for example without a network.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "privynet-tests"
    caches.mkdir(parents=True, exist_ok=True)
    root = caches / f"onnxruntime-headers-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"
    with (caches / "onnxruntime-headers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=caches, prefix="headers-unfinished-") as folder:
                package = _fetch(Path(folder) / "apt")
                _call("dpkg-deb", "--extract", str(package), str(Path(folder) / "root"))
                (Path(folder) / "root").rename(root)
    return root / "usr/include/onnxruntime"


def _fetch(folder: Path) -> Path:
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
        (folder / name).mkdir(parents=True)
    (folder / "state/status").touch()
    (folder / "etc/debian.sources").write_text(_SOURCE)
    options = [
        f"Dir::State={folder / 'state'}",
        f"Dir::State::status={folder / 'state/status'}",
        f"Dir::Cache={folder / 'cache'}",
        f"Dir::Etc::sourcelist={folder / 'etc/debian.sources'}",
        f"Dir::Etc::sourceparts={folder / 'etc/none'}",
        "Acquire::Languages=none",
        "APT::Sandbox::User=",  # who cannot read the user's cache
        "Debug::NoLocking=1",
    ]
    apt = ["apt-get", "--quiet", *(word for option in options for word in ("-o", option))]
    _call(*apt, "update")
    _call(*apt, "download", _PACKAGE, cwd=folder)
    (package,) = folder.glob("*.deb")
    return package


def _call(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
