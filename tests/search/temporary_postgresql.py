"""A PostgreSQL server of its own: a free port, a temporary folder, gone when the context ends."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

USER, PASSWORD = "privynet", "correct-horse{battery}/staple"
_STARTING_S = 60.0

_UNTIL_EOF = """
folder=$0
"$@" <&- &
read -r _
kill -QUIT $!
wait $!
rm -rf "$folder"
"""
"""Shell: the server ends, at once, with whoever holds the other end of stdin, however that one ends."""


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs: Debian keeps it off the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return max(folders, key=lambda folder: int(folder.parent.name.partition(".")[0]), default=None)


class TemporaryPostgresql:
    """The server. Root cannot run one, so that root runs it as ``postgres`` or ``nobody``."""

    def __init__(self) -> None:
        found = binaries()
        if found is None:
            raise FileNotFoundError("initdb: install PostgreSQL")
        self._binaries = found
        self._databases = 0

    def __enter__(self) -> TemporaryPostgresql:
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._as = _unprivileged()
        if self._as:
            os.chown(self._folder, self._as["user"], self._as["group"])
        try:
            self._make()
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def database(self) -> str:
        """The URL of a new, empty database, as SQLAlchemy takes it."""
        self._databases += 1
        name = f"studies{self._databases}"
        with self._connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def url(self, database: str, *, password: str = PASSWORD) -> str:
        """The URL of a database that may be there or not."""
        quoted = password.replace("/", "%2F")
        return f"postgresql://{USER}:{quoted}@127.0.0.1:{self.port}/{database}"

    def text(self, url: str) -> str:
        """All that is in a database, as SQL."""
        options: dict[str, Any] = {"capture_output": True, "text": True, "check": True}
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, url.rpartition("/")[2]]
        return subprocess.run(
            [str(self._binaries / "pg_dump"), "--inserts", *where], env=environment, **options
        ).stdout

    def _make(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._as:
            os.chown(password, self._as["user"], self._as["group"])
        self._call(
            "initdb",
            *("-D", str(self._folder / "data"), "-U", USER, f"--pwfile={password}"),
            *("--auth=scram-sha-256", "--locale=C", "--encoding=UTF8", "--no-sync"),
        )

    def _start(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port: int = taken.getsockname()[1]
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
        }
        arguments = ["-D", str(self._folder / "data")]
        arguments += [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _UNTIL_EOF, str(self._folder), str(self._binaries / "postgres"), *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is for the one that started it
                **(self._as or {}),
            )
        until = time.monotonic() + _STARTING_S
        while True:
            try:
                self._connect().close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.1)

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        )

    def _call(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self._binaries / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, **(self._as or {}))
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stderr}")


def _unprivileged() -> dict[str, Any] | None:
    """What ``subprocess`` needs to leave root; ``None`` for others."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise RuntimeError("no user postgres or nobody to run PostgreSQL as")
