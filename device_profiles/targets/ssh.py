"""A board as a target, over SSH with OpenSSH's conventions: agent, ~/.ssh/config, known_hosts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import InputError, PrivynetError
from .address import read_host
from .host_keys import GLOBAL_FILE, USER_FILE, HostKeys
from .process import LAST_BYTES, last_line
from .shell_target import ShellTarget, Stream, shell_line
from .target import ConnectionCut, Ending

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
_CONNECT_SECONDS = 20.0
_ALIVE_SECONDS = 10.0
"""A connection on which three such questions in a row stay without an answer is lost."""
_MOST_JUMPS = 8
_KINDS = "+ssh-ed25519,ecdsa-*,rsa-sha2-*"


class SshTarget(ShellTarget):
    """``ssh://USER@HOST[:PORT]``; what is left out comes from the user's configuration."""

    def __init__(
        self,
        name: str,
        *,
        host: str,
        user: str | None = None,
        port: int | None = None,
        python: str | None = None,
        accept_new_host_key: bool = False,
    ) -> None:
        super().__init__(name, python=python)
        self._where = {"host": host, "config": (), **_given(username=user, port=port)}
        self._accept_new = accept_new_host_key
        self._loop: _Loop | None = None
        self._connections: list[asyncssh.SSHClientConnection] = []

    def _connect(self) -> None:
        library = _asyncssh()
        self._loop = _Loop()
        try:
            self._loop.wait(self._open(library, self._where), _CONNECT_SECONDS * 2)
        except BaseException as error:
            self._disconnect()
            if isinstance(error, (library.Error, OSError, TimeoutError, ValueError)):
                raise self._unreachable(library, error) from error
            raise

    async def _open(
        self, library: ModuleType, where: dict[str, Any], jumps: int = 0
    ) -> asyncssh.SSHClientConnection:
        """Connect to a host, through those that its ProxyJump names."""
        if jumps > _MOST_JUMPS:
            raise InputError(f"ProxyJump of {where['host']} goes in a circle", hint="correct ~/.ssh/config")
        options = library.SSHClientConnectionOptions(**where)
        tunnel = where.get("tunnel")
        if tunnel is None and isinstance(options.tunnel, str):
            for jump in options.tunnel.split(","):
                tunnel = await self._open(library, {**_jump(jump), **_given(tunnel=tunnel)}, jumps + 1)
        keys = HostKeys(
            options.config.get("UserKnownHostsFile", [USER_FILE]),
            options.config.get("GlobalKnownHostsFile", [GLOBAL_FILE]),
            host=options.host or where["host"],
            accept_new=self._accept_new,
        )

        class Client(library.SSHClient):  # type: ignore[misc, name-defined]
            def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
                return keys.judge(host, addr, port, key)

        try:
            connection: asyncssh.SSHClientConnection = await library.connect(
                **{**where, **_given(tunnel=tunnel)},
                client_factory=Client,
                known_hosts=keys.known,
                # The kinds that are known come first; the others, so that a change is seen as one.
                server_host_key_algs=() if options.config.get("HostKeyAlgorithms") else _KINDS,
                connect_timeout=_CONNECT_SECONDS,
                login_timeout=_CONNECT_SECONDS,
                keepalive_interval=_ALIVE_SECONDS,
            )
        except library.HostKeyNotVerifiable:
            if keys.refusal:
                raise keys.refusal from None
            raise
        self._connections.append(connection)
        keys.learn()
        return connection

    def _unreachable(self, library: ModuleType, error: BaseException) -> PrivynetError:
        if isinstance(error, library.PermissionDenied):
            return PrivynetError(
                f"{self.name} takes none of the keys it was offered",
                hint="ssh-copy-id puts yours there, ssh-add unlocks one that has a passphrase",
            )
        if isinstance(error, library.ConfigParseError):
            return InputError(f"the configuration of ssh cannot be read: {error}", hint="correct it")
        why = (
            "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)
        )
        return PrivynetError(f"{self.name} cannot be reached: {why}", hint="does ssh reach it?")

    def _disconnect(self) -> None:
        if self._loop is not None:
            for connection in reversed(self._connections):
                self._loop.soon(connection.abort)
            self._connections = []
            self._loop.close()
            self._loop = None

    def _start(self, command: str, *, writing: bool = False) -> _SshStream:
        assert self._loop is not None
        return _SshStream(self.name, self._loop, self._connections[-1], command, writing=writing)

    def _copy(self, file: Path, path: str, seconds: float) -> None:
        stream = self._start(shell_line('cat >"$0"', path), writing=True)
        try:
            with file.open("rb") as content:
                while chunk := content.read(1 << 18):
                    stream.send(chunk, seconds)
            stream.end_input()
            list(stream.lines(seconds))
            ending = stream.ending(seconds)
        except TimeoutError:
            raise self._silent() from None
        finally:
            stream.end()
        if ending.code != 0:
            raise PrivynetError(
                f"{file.name} cannot be copied to {self.name}: {ending.said or f'exit code {ending.code}'}",
                hint="free some room there, or set TMPDIR for its shell",
            )


class _SshStream(Stream):
    """A command on a channel of a connection; a task of the loop reads what it prints."""

    def __init__(
        self,
        target: str,
        loop: _Loop,
        connection: asyncssh.SSHClientConnection,
        command: str,
        *,
        writing: bool,
    ) -> None:
        super().__init__()
        self._target, self._loop = target, loop
        self._errors = b""

        async def start() -> asyncssh.SSHClientProcess[bytes]:
            return await connection.create_process(command, encoding=None)

        try:
            self._process = loop.wait(start(), _CONNECT_SECONDS)
        except (_asyncssh().Error, OSError, TimeoutError) as error:
            raise self._cut() from error
        if not writing:
            self.end_input()
        self._reading = asyncio.run_coroutine_threadsafe(self._read(), loop.loop)

    async def _read(self) -> None:
        async def errors() -> None:
            while data := await self._process.stderr.read(65536):
                self._errors = (self._errors + data)[-LAST_BYTES:]

        async def chunks() -> None:
            while data := await self._process.stdout.read(65536):
                self._chunks.put(data)

        try:
            await asyncio.gather(errors(), chunks(), return_exceptions=True)
        finally:
            self._chunks.put(None)

    def send(self, data: bytes, seconds: float) -> None:
        """Write to its stdin; what it no longer reads is dropped."""

        async def write() -> None:
            self._process.stdin.write(data)
            await self._process.stdin.drain()

        try:
            self._loop.wait(write(), seconds)
        except TimeoutError:  # an OSError, too
            raise
        except (OSError, _asyncssh().Error):
            pass  # its ending says why

    def end_input(self) -> None:
        self._loop.soon(self._process.stdin.write_eof)

    def ending(self, seconds: float) -> Ending:
        try:
            self._loop.wait(self._process.wait_closed(), seconds)
        except TimeoutError:
            return Ending(None, "")
        status, signal = self._process.exit_status, self._process.exit_signal
        if status is None and signal is None:
            raise self._cut()
        return Ending(status if status is not None and status >= 0 else 128, last_line(self._errors))

    def end(self) -> None:
        self._loop.soon(self._process.close)

    def _cut(self) -> ConnectionCut:
        return ConnectionCut(
            f"the connection to {self._target} was cut", hint="nothing was measured; try again"
        )


class _Loop:
    """An event loop in a thread of its own, so that the rest need not know of it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What the work gives. Raises ``TimeoutError`` after so long."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(timeout=seconds)
        except BaseException:
            future.cancel()
            raise

    def soon(self, call: Callable[[], None]) -> None:
        """Let it be called; on a connection that is gone already nothing is to be done."""

        def quietly() -> None:
            with suppress(OSError):
                call()

        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(quietly)

    def close(self) -> None:
        async def finish() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        with suppress(TimeoutError):
            self.wait(finish(), 5.0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout=5.0)
        if not self._thread.is_alive():
            self.loop.close()


def _asyncssh() -> ModuleType:
    try:
        import asyncssh
    except ImportError:
        raise InputError("asyncssh is not installed", hint="pip install 'privynet[ssh]'") from None
    return asyncssh


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _jump(text: str) -> dict[str, Any]:
    """What connects to one host of a ProxyJump, [USER@]HOST[:PORT]."""
    user, _, place = text.strip().removeprefix("ssh://").rpartition("@")
    found = read_host(place)
    if found is None:
        raise InputError(f"the ProxyJump {text!r} is no [USER@]HOST[:PORT]", hint="correct ~/.ssh/config")
    host, port = found
    return {"host": host, "config": (), **_given(username=user or None, port=port)}
