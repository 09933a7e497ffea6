"""A board: Debian's sshd on a free port of this machine, with keys of its own, for the user that runs it."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from .place import Elsewhere
from .server import Server

_STARTING_S = 20.0


def sshd() -> str | None:
    """The server; Debian keeps it off an ordinary user's PATH."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return found if found and shutil.which("ssh-keygen") and shutil.which("ssh-agent") else None


def make_key(path: Path, *, passphrase: str = "") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "", "-f", str(path)], check=True
    )
    return path


class Board(Elsewhere):
    """The server, and the client's home that goes with it: its key, and this board among its known hosts."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        super().__init__(folder)
        self.folder = folder
        self.user = getpass.getuser()
        self.port = port or free_port()
        self.host_key = make_key(folder / "host_key")
        self.user_key = make_key(folder / "user_key")
        self.url = f"ssh://{self.user}@127.0.0.1:{self.port}"

    def __enter__(self) -> Board:
        program = sshd()
        assert program
        if os.geteuid() == 0:  # a server of root's wants an empty folder there, which its package makes
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.host_key,
            "AuthorizedKeysFile": self.user_key.with_suffix(".pub"),
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PermitRootLogin": "yes",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "SetEnv": " ".join(f"{name}={value}" for name, value in self.environment.items()),
        }
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        log = self.folder / "sshd.log"
        self._server = Server([program, "-D", "-e", "-f", str(config)], log=log)
        until = time.monotonic() + _STARTING_S
        while b"Server listening" not in log.read_bytes():
            if not self._server.process.is_running() or time.monotonic() > until:
                self._server.end()
                raise RuntimeError(log.read_text())
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._server.end()

    def home(self, folder: Path, *, known: bool = True) -> Path:
        """A home for a client that may log in, and knows the board or not."""
        folder = folder / ".ssh"
        folder.mkdir(mode=0o700, parents=True)
        shutil.copy(self.user_key, folder / "id_ed25519")
        if known:
            (folder / "known_hosts").write_text(self.known_line())
        return folder.parent

    def known_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key.with_suffix('.pub').read_text().strip()}\n"

    def sessions(self) -> list[psutil.Process]:
        """The server's processes for connections."""
        descendants = self._server.process.children(recursive=True)
        found = []
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                if process.name().startswith("sshd"):
                    found.append(process)
        return found

    def cut(self) -> None:
        for process in self.sessions():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def limit(self, kind: int, value: int) -> None:
        self._server.process.rlimit(kind, (value, value))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
