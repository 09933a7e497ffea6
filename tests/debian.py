"""What tests fetch from Debian's archive: through the machine's own apt, with a state of its own.

Nothing is installed on the machine and root is not needed. What is made of the packages lies in the user's
cache and is made once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_PATIENCE_S = 600


def made_once(name: str, recipe: Iterable[Path], make: Callable[[Path, Path], None]) -> Path:
    """The folder ``name`` of the tests' cache; ``make(root, scratch)`` fills ``root`` if it is not there.

    Files of the ``recipe`` that say something else, such as another release of Debian, make another folder.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "privynet-tests"
    caches.mkdir(parents=True, exist_ok=True)
    files = [Path("/etc/os-release"), Path(__file__), *recipe]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    made = caches / f"{name}-{digest[:16]}"
    with (caches / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=caches, prefix=f"{name}-unfinished-") as folder:
                root, scratch = Path(folder) / "root", Path(folder) / "scratch"
                root.mkdir()
                scratch.mkdir()
                make(root, scratch)
                root.rename(made)
    return made


def packages_with_dependencies(names: Iterable[str], architecture: str, scratch: Path) -> list[Path]:
    """The packages and all they need, of the machine's own release, for another architecture."""
    foreign = [f"APT::Architecture={architecture}", f"APT::Architectures={architecture}"]
    apt = _apt(scratch, *foreign)
    # A source without such packages fails here and does not matter, unless it was the only one.
    call(*apt, "update", check=False)
    call(*apt, "install", "--yes", "--no-install-recommends", "--download-only", *names)
    return sorted((scratch / "cache/archives").glob("*.deb"))


def package_of_release(name: str, release: str, scratch: Path) -> Path:
    """One package alone, of a release of Debian that may be a later one than the machine's."""
    sources = scratch / "debian.sources"
    sources.write_text(
        f"Types: deb\nURIs: {' '.join(_archives())}\nSuites: {release}\nComponents: main\n"
        f"Signed-By: {_KEYRING}\n"
    )
    apt = _apt(scratch, f"Dir::Etc::sourcelist={sources}", f"Dir::Etc::sourceparts={scratch / 'none'}")
    call(*apt, "update")
    call(*apt, "download", name, cwd=scratch)
    (package,) = scratch.glob("*.deb")
    return package


def extract(package: Path, root: Path) -> None:
    """The package's files, below ``root``."""
    call("dpkg-deb", "--extract", str(package), str(root))


def call(*command: str, check: bool = True, cwd: Path | None = None) -> str:
    """What the program prints. Raises ``RuntimeError`` with its complaint when it fails and ``check``."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _archives() -> list[str]:
    """Where the machine's own apt finds Debian, or a mirror of it."""
    found = set(re.findall(r"^'(\S+)/dists/", call("apt-get", "--print-uris", "update"), re.MULTILINE))
    archives = sorted(one for one in found if one.endswith("/debian"))
    if not archives:
        raise RuntimeError(f"apt has no source of Debian, but {', '.join(sorted(found)) or 'none at all'}")
    return archives


def _apt(scratch: Path, *options: str) -> list[str]:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (scratch / name).mkdir(parents=True)
    (scratch / "state/status").touch()
    own = [
        f"Dir::State={scratch / 'state'}",
        f"Dir::State::status={scratch / 'state/status'}",
        f"Dir::Cache={scratch / 'cache'}",
        "Acquire::Languages=none",
        "APT::Sandbox::User=",  # who cannot read the user's cache
        "Debug::NoLocking=1",
    ]
    return ["apt-get", "--quiet", *(word for option in [*own, *options] for word in ("-o", option))]
