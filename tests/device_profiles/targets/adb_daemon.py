"""A phone's adb daemon, as far as the adb client needs it for ``shell`` and ``push``; run as a program.

    python adb_daemon.py

It prints its port, and runs commands with the environment it has. SIGUSR1 breaks the connection, as a pulled
cable does. Speaks the transport protocol of AOSP's ``adb/protocol.txt`` over TCP, shell v2 and sync v1.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

VERSION, MAX_DATA = 0x01000001, 64 * 1024
CNXN, OPEN, OKAY, WRTE, CLSE = (
    int.from_bytes(name, "little") for name in (b"CNXN", b"OPEN", b"OKAY", b"WRTE", b"CLSE")
)
BANNER = b"device::ro.product.name=stand_in;ro.product.model=stand_in;features=shell_v2"
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
"""Shell v2: a packet is one of these in a byte, its length in four, and so many bytes."""


class Transport:
    """One connection of adb's server, with the streams that it carries."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._writing = threading.Lock()
        self._streams: dict[int, Stream] = {}

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        header = struct.pack(
            "<6I", command, first, second, len(data), sum(data) & 0xFFFFFFFF, command ^ 0xFFFFFFFF
        )
        with self._writing:
            self._connection.sendall(header + data)

    def serve(self) -> None:
        try:
            while header := self._exactly(24):
                command, first, second, length, _, _ = struct.unpack("<6I", header)
                self._handle(command, first, second, self._exactly(length))
        except OSError:
            pass
        for stream in list(self._streams.values()):
            stream.closed()

    def abort(self) -> None:
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def forget(self, number: int) -> None:
        self._streams.pop(number, None)

    def _handle(self, command: int, theirs: int, ours: int, data: bytes) -> None:
        if command == CNXN:
            self.send(CNXN, VERSION, MAX_DATA, BANNER)
        elif command == OPEN:
            service, _, argument = data.rstrip(b"\0").decode().partition(":")
            number = max(self._streams, default=0) + 1
            kinds: dict[str, Callable[[], Stream]] = {
                "shell": lambda: Shell(self, number, theirs, argument),
                "sync": lambda: Sync(self, number, theirs),
            }
            make = kinds.get(service.partition(",")[0])
            if make is None:
                self.send(CLSE, 0, theirs)
                return
            self.send(OKAY, number, theirs)
            self._streams[number] = make()
        elif command == WRTE and ours in self._streams:
            self.send(OKAY, ours, theirs)
            self._streams[ours].received(data)
        elif command == OKAY and ours in self._streams:
            self._streams[ours].ready.release()
        elif command == CLSE and ours in self._streams:
            self._streams.pop(ours).closed()

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self._connection.recv(length - len(data))
            if not more:
                return b""
            data += more
        return data


class Stream(ABC):
    """A service that was opened; ``received`` and ``closed`` come from the other end."""

    def __init__(self, transport: Transport, ours: int, theirs: int) -> None:
        self._transport, self._ours, self._theirs = transport, ours, theirs
        self._open = True
        self._buffer = b""
        self._writing = threading.Lock()
        # One message may be on its way at a time.
        self.ready = threading.Semaphore(1)

    def write(self, data: bytes) -> None:
        with self._writing:
            for start in range(0, len(data), MAX_DATA):
                self.ready.acquire()
                if self._open:
                    self._transport.send(WRTE, self._ours, self._theirs, data[start : start + MAX_DATA])

    def close(self) -> None:
        self.ready.acquire()
        if self._open:
            self._open = False
            self._transport.forget(self._ours)
            self._transport.send(CLSE, self._ours, self._theirs)

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Take what the other end has sent."""

    def closed(self) -> None:
        self._open = False
        self.ready.release()


class Shell(Stream):
    """``shell,v2,raw:COMMAND``."""

    def __init__(self, transport: Transport, ours: int, theirs: int, command: str) -> None:
        super().__init__(transport, ours, theirs)
        self._process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        outputs = [(STDOUT, self._process.stdout), (STDERR, self._process.stderr)]
        threads = [threading.Thread(target=self._forward, args=output, daemon=True) for output in outputs]
        for thread in threads:
            thread.start()
        code = self._process.wait()
        for thread in threads:
            thread.join()
        try:
            self.write(struct.pack("<BIB", EXIT, 1, code if code >= 0 else 128 - code))
            self.close()
        except OSError:
            pass

    def _forward(self, kind: int, output: object) -> None:
        try:
            while data := output.read(16384):  # type: ignore[attr-defined]
                self.write(struct.pack("<BI", kind, len(data)) + data)
        except OSError:
            pass

    def received(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._buffer += data
        while len(self._buffer) >= 5:
            kind, length = struct.unpack("<BI", self._buffer[:5])
            if len(self._buffer) < 5 + length:
                return
            packet, self._buffer = self._buffer[5 : 5 + length], self._buffer[5 + length :]
            if kind == STDIN:
                with suppress(OSError):
                    self._process.stdin.write(packet)
            elif kind == CLOSE_STDIN:
                self._process.stdin.close()

    def closed(self) -> None:
        super().closed()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)


class Sync(Stream):
    """``sync:``, of which ``push`` needs STAT and SEND."""

    def __init__(self, transport: Transport, ours: int, theirs: int) -> None:
        super().__init__(transport, ours, theirs)
        self._sending: Path | None = None
        self._failed: str | None = None

    def received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 8:
            kind, length = self._buffer[:4], int.from_bytes(self._buffer[4:8], "little")
            size = 0 if kind in (b"DONE", b"QUIT") else length
            if len(self._buffer) < 8 + size:
                return
            payload, self._buffer = self._buffer[8 : 8 + size], self._buffer[8 + size :]
            self._request(kind, payload)

    def _request(self, kind: bytes, payload: bytes) -> None:
        if kind == b"STAT":
            try:
                found = os.lstat(payload)
                figures = (found.st_mode, found.st_size, int(found.st_mtime))
            except OSError:
                figures = (0, 0, 0)
            self._answer(b"STAT" + struct.pack("<3I", *figures))
        elif kind == b"SEND":
            self._sending = Path(os.fsdecode(payload.rpartition(b",")[0]))
            self._failed = None
            self._append(b"", "wb")
        elif kind == b"DATA":
            self._append(payload, "ab")
        elif kind == b"DONE":
            if self._failed is None:
                self._answer(b"OKAY" + struct.pack("<I", 0))
            else:
                message = self._failed.encode()
                self._answer(b"FAIL" + struct.pack("<I", len(message)) + message)
        elif kind == b"QUIT":
            threading.Thread(target=self.close, daemon=True).start()

    def _append(self, data: bytes, mode: str) -> None:
        assert self._sending is not None
        try:
            if self._failed is None:
                with self._sending.open(mode) as stream:
                    stream.write(data)
        except OSError as error:
            self._failed = str(error.strerror)
            self._sending.unlink(missing_ok=True)

    def _answer(self, data: bytes) -> None:
        # Not from the thread that must read the other end's acknowledgement.
        threading.Thread(target=self.write, args=(data,), daemon=True).start()


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        transports: list[Transport] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: [transport.abort() for transport in transports])
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transports.append(Transport(connection))
            threading.Thread(target=transports[-1].serve, daemon=True).start()


if __name__ == "__main__":
    main()
