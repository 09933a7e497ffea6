"""Self-tests that nobody should read: refused with a finding, in bounded time and memory."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .hostile import checked_within_limits, reseal


def array_file(header: str, data: bytes = b"") -> bytes:
    """An npy file with this header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def described(descr: str, shape: str, data: bytes = b"") -> bytes:
    return array_file(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}", data)


class Evil:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return Path.write_text, (Path("/tmp/privynet-was-here"), "x")


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([Evil()], dtype=object), allow_pickle=True)
    return stream.getvalue()


Members = dict[str, bytes]


def rewritten(
    change: Callable[[Members], None], *, compression: int = zipfile.ZIP_STORED
) -> Callable[..., None]:
    def rewrite(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return rewrite


def with_member(name: str, data: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return rewritten(lambda members: members.update({name: data(members.get(name, b""))}))


def many_entries(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}", b"")


def long_directory_hidden(path: Path) -> None:
    """The short end tells of a short directory, the one for long archives of another."""
    data = path.read_bytes()
    end = data[-22:]
    long_end = b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes(44)
    locator = b"PK\x06\x07" + bytes(4) + (len(data) - 22).to_bytes(8, "little") + (1).to_bytes(4, "little")
    path.write_bytes(data[:-22] + long_end + locator + end)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle": (with_member("images.npy", lambda data: pickled()), "other shapes or types"),
    "a terabyte of images": (
        with_member("images.npy", lambda data: described("'|u1'", "(60, 131072, 131072, 3)")),
        "other shapes or types",
    ),
    "more rows than a self-test has": (
        with_member("images.npy", lambda data: described("'|u1'", f"({2**50}, 32, 32, 3)")),
        "allowed: 1 to 64",
    ),
    "fewer bytes than declared": (
        with_member("images.npy", lambda data: described("'|u1'", "(60, 32, 32, 3)", b"x" * 100)),
        "declares 184320 bytes",
    ),
    "more bytes than declared": (
        with_member("features.npy", lambda data: data + b"more"),
        "declares",
    ),
    "no rows": (
        with_member("images.npy", lambda data: described("'|u1'", "(0, 32, 32, 3)")),
        "allowed: 1 to 64",
    ),
    "fewer rows of one": (
        with_member("images.npy", lambda data: described("'|u1'", "(1, 32, 32, 3)", bytes(3072))),
        "as many rows of each",
    ),
    "a code as a header": (
        with_member("images.npy", lambda data: array_file("__import__('os')")),
        "cannot be read",
    ),
    "a nested header": (with_member("images.npy", lambda data: array_file("(" * 9000)), "cannot be read"),
    "a long header": (with_member("images.npy", lambda data: array_file(" " * 60_000)), "cannot be read"),
    "a record": (
        with_member("images.npy", lambda data: described("[('a', '|u1'), ('b', '<f8')]", "(1, 32, 32, 3)")),
        "other shapes or types",
    ),
    "another version of the format": (
        with_member("images.npy", lambda data: data[:6] + b"\x02\x00" + data[8:]),
        "another version",
    ),
    "no array": (with_member("images.npy", lambda data: b"hello"), "cannot be read"),
    "another name": (with_member("extra.npy", lambda data: b""), "holds extra, features, images"),
    "a name that is none": (with_member("../evil.npy", lambda data: b""), "holds ../evil"),
    "compressed": (
        rewritten(
            lambda members: members.update({"images.npy": bytes(2**26)}), compression=zipfile.ZIP_DEFLATED
        ),
        "compressed",
    ),
    "many entries": (many_entries, "more than a self-test has"),
    "a hidden directory": (long_directory_hidden, "no archive of arrays"),
    "cut off": (cut, "no archive of arrays"),
    "empty": (lambda path: path.write_bytes(b""), "is cut off"),
    "text": (lambda path: path.write_bytes(b"text" * 100), "no archive"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_within_limits(small: Path, tmp_path: Path, case: str) -> None:
    change, message = CASES[case]
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    change(copy / "selftest.npz")
    reseal(copy)
    found = checked_within_limits(copy)["findings"]
    assert [(one["code"], one["file"]) for one in found] == [("selftest", "selftest.npz")]
    assert message in found[0]["message"] and found[0]["message"].isprintable()
    assert not Path("/tmp/privynet-was-here").exists()
