"""An ONNX file without the values of its weights, read in bounded time and memory whatever it holds.

A protocol buffer is parsed into objects many times its size, and what it declares need not be there. So the
file is first walked as bytes, down to the graph's nodes and initialisers; only what is then known to be small
is parsed.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MOST_NODES = 20_000
MOST_INITIALISERS = 20_000
_MOST_FIELDS = 500_000
_MOST_OUTLINE_BYTES = 2**23
_MOST_NODE_BYTES = 2**16
_KEPT_BYTES = 2**10
"""Values of initialisers up to this size stay: shapes and axes are among them."""

# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALISER = 1, 5
_TENSOR_RAW_DATA = 9

_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5


class NoOutline(Exception):
    """A file that is not ONNX, or is too much of it."""


@dataclass(frozen=True)
class Outline:
    """A model, and how many bytes of values were left out of it, by the initialiser's place in the graph."""

    model: onnx.ModelProto
    left_out: dict[int, int]


def read_outline(file: Path) -> Outline:
    """The outline of an ONNX file. Raises ``NoOutline``."""
    import onnx
    from google.protobuf.message import DecodeError

    if not file.stat().st_size:
        raise NoOutline("is empty")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        walk = _Walk(data)
        text = walk.model()
    try:
        model = onnx.ModelProto.FromString(bytes(text))
    except DecodeError as error:
        raise NoOutline("is no ONNX file") from error
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() != size:
        raise NoOutline("has fields that ONNX has not")
    return Outline(model, walk.left_out)


@dataclass
class _Walk:
    """One pass over the bytes of a model."""

    data: mmap.mmap
    left_out: dict[int, int] = field(default_factory=dict)
    fields_seen: int = 0
    bytes_kept: int = 0

    def model(self) -> bytes:
        outline, graphs = bytearray(), 0
        for found in self._fields(0, len(self.data)):
            if found.is_message(_MODEL_GRAPH):
                graphs += 1
                outline += _message(_MODEL_GRAPH, self._graph(found))
            else:
                outline += self._kept(found)
        if graphs != 1:
            raise NoOutline(f"has {graphs} graphs")
        return bytes(outline)

    def _graph(self, graph: _Field) -> bytes:
        outline, nodes, initialisers = bytearray(), 0, 0
        for found in self._fields(graph.value, graph.end):
            if found.is_message(_GRAPH_INITIALISER):
                outline += _message(_GRAPH_INITIALISER, self._initialiser(found, initialisers))
                initialisers += 1
            else:
                is_node = found.is_message(_GRAPH_NODE)
                nodes += is_node
                if is_node and found.end - found.value > _MOST_NODE_BYTES:
                    raise NoOutline(f"has a node of more than {_MOST_NODE_BYTES} bytes")
                outline += self._kept(found)
            if nodes > MOST_NODES:
                raise NoOutline(f"has more than {MOST_NODES} nodes")
            if initialisers > MOST_INITIALISERS:
                raise NoOutline(f"has more than {MOST_INITIALISERS} initialisers")
        return bytes(outline)

    def _initialiser(self, tensor: _Field, place: int) -> bytes:
        outline = bytearray()
        for found in self._fields(tensor.value, tensor.end):
            size = found.end - found.value
            if not found.is_message(_TENSOR_RAW_DATA) or size <= _KEPT_BYTES:
                outline += self._kept(found)
            elif place in self.left_out:
                raise NoOutline("has an initialiser with values twice")
            else:
                self.left_out[place] = size
        return bytes(outline)

    def _kept(self, found: _Field) -> bytes:
        self.bytes_kept += found.end - found.start
        if self.bytes_kept > _MOST_OUTLINE_BYTES:
            raise NoOutline(f"has more than {_MOST_OUTLINE_BYTES} bytes beside its weights")
        return self.data[found.start : found.end]

    def _fields(self, at: int, end: int) -> Iterator[_Field]:
        while at < end:
            self.fields_seen += 1
            if self.fields_seen > _MOST_FIELDS:
                raise NoOutline(f"has more than {_MOST_FIELDS} fields")
            tag, value = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                _, stop = self._varint(value, end)
            elif kind == _SIZED:
                size, value = self._varint(value, end)
                stop = value + size
            elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
                stop = value + (8 if kind == _EIGHT_BYTES else 4)
            else:
                raise NoOutline("is no ONNX file")
            if stop > end or not number:
                raise NoOutline("is cut off, or no ONNX file")
            yield _Field(number, kind, at, value, stop)
            at = stop

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """The number that begins at a place, and the place behind it."""
        number = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self.data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number, at
        raise NoOutline("is cut off, or no ONNX file")


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    start: int
    """Of the tag before the value."""
    value: int
    end: int

    def is_message(self, number: int) -> bool:
        return self.number == number and self.kind == _SIZED


def _message(number: int, body: bytes) -> bytes:
    size, written = len(body), bytearray([number << 3 | _SIZED])
    while size >= 0x80:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*written, size]) + body
