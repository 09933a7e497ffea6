"""Files that are too much, or no ONNX: refused with a finding, in bounded time and memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .hostile import checked_within_limits, reseal


def tag(number: int, body: bytes) -> bytes:
    size, written = len(body), bytearray([number << 3 | 2])
    while size >= 0x80:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*written, size]) + body


def nested(depth: int) -> bytes:
    """A node whose attribute holds a graph with a node whose attribute …"""
    body = b""
    for _ in range(depth):
        body = tag(1, tag(5, tag(6, body)))
    return body


BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a million nodes": (lambda data: tag(7, tag(1, tag(4, b"Relu")) * 1_000_000), "more than 20000 nodes"),
    "a million initialisers": (
        lambda data: tag(7, tag(5, tag(8, b"name")) * 1_000_000),
        "more than 20000 initialisers",
    ),
    "a million fields": (lambda data: data + b"\x08\x0a" * 1_000_000, "more than 500000 fields"),
    "a million inputs of a node": (
        lambda data: tag(7, tag(1, tag(1, b"x") * 1_000_000)),
        "a node of more than",
    ),
    "a million values beside": (
        lambda data: tag(7, tag(13, tag(1, b"x" * 20)) * 400_000),
        "beside its weights",
    ),
    "deep nesting": (lambda data: tag(7, nested(5000)), "no ONNX file|a node of more than"),
    "a little deep nesting": (lambda data: tag(7, nested(60)), ""),
    "two graphs": (lambda data: data + tag(7, b""), "2 graphs"),
    "no graph": (lambda data: b"\x08\x0a", "0 graphs"),
    "nothing": (lambda data: b"", "is empty"),
    "text": (lambda data: b"no graph at all", "no ONNX file"),
    "half of it": (lambda data: data[: len(data) // 2], "cut off"),
    "a size beyond the end": (lambda data: bytes([7 << 3 | 2, *b"\xff" * 9, 1]), "cut off"),
    "a number without end": (lambda data: b"\x08" + b"\xff" * 100, "cut off"),
    "a name that is no text": (lambda data: data.replace(b"Conv_", b"\xffonv_", 1), "has a name that"),
    "an operator that is no text": (
        lambda data: data.replace(b"Conv", b"\xffonv", 1),
        "has a name|has a op_type",
    ),
    "values twice": (
        lambda data: tag(7, tag(5, tag(9, bytes(5000)) + tag(9, bytes(5000)))),
        "values twice",
    ),
}


@pytest.mark.parametrize("case", BYTES)
def test_a_file_that_is_too_much_or_no_onnx_is_refused_within_limits(
    small: Path, tmp_path: Path, case: str
) -> None:
    change, message = BYTES[case]
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    (copy / "encoder.onnx").write_bytes(change((copy / "encoder.onnx").read_bytes()))
    reseal(copy)
    found = checked_within_limits(copy)["findings"]
    assert {(one["code"], one["file"]) for one in found} == {("graph", "encoder.onnx")}
    assert any(part in found[0]["message"] for part in message.split("|")), found


def test_a_huge_file_with_nothing_in_it_is_refused_within_limits(small: Path, tmp_path: Path) -> None:
    """A gigabyte that takes no room on the disk."""
    copy = Path(shutil.copytree(small, tmp_path / "copy"))
    with (copy / "encoder.onnx").open("wb") as stream:
        stream.truncate(2**30)
    reseal(copy)
    (found,) = checked_within_limits(copy)["findings"]
    assert (found["code"], found["file"]) == ("graph", "encoder.onnx")
