"""The same bytes each time for a file that ONNX Runtime writes from hash tables.

An .ort file is a flatbuffer: a head with the root and a table of the kernels that the graph needs, then the
graph. The graph follows from the model. The kernels' table lies in memory in the order of a hash table, which
is another one in each process; its content is sorted. Here it is written once more, in the order of its
content, and the graph is put behind it as it is: all references within a flatbuffer are relative.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from typing import Any

from ...errors import PrivynetError

_MARK = b"ORTM"
_ALIGNMENT = 16
_ROOT = 20
_FIELDS = 4
"""Of the root: the format's version, the model, what older releases had, the kernels."""


def ort_format_model() -> Any:
    """ONNX Runtime's readers of .ort files; after this their ``ort_flatbuffers_py`` can be imported, too."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    try:
        from onnxruntime.tools import ort_format_model
    finally:
        # It sets up logging for the whole process when it is imported.
        root.handlers[:] = handlers
    return ort_format_model


def in_fixed_order(data: bytes) -> bytes:
    """An .ort file with its kernels' table in the order of its content; all it says stays the same.

    Raises ``PrivynetError`` for a file of another form than the one described above.
    """
    ort_format_model()
    from ort_flatbuffers_py.fbs.InferenceSession import InferenceSession

    root = _unsigned(data, 0)
    version, model, old, kernels = (_referred(data, root, field) for field in range(_FIELDS))
    graph = min(model, model - _signed(data, model))
    if data[4:8] != _MARK or not 0 < kernels < graph <= min(model, version) or old:
        raise PrivynetError("ONNX Runtime wrote a form of encoder.ort that is not known here")
    session = InferenceSession.GetRootAsInferenceSession(bytearray(data), 0)
    table = _kernels(session.KernelTypeStrResolver())
    head_bytes = _ROOT + 4 + 4 * (_FIELDS - 1)
    start = head_bytes + -head_bytes % 8
    size = start + len(table)
    # A flatbuffer is written from its end, and all in it is aligned as seen from there.
    size += -(size + len(data) - graph) % _ALIGNMENT
    moved = size - graph
    head = struct.pack("<I4s", _ROOT, _MARK)
    # The root's own table of places, and the root: how far back that is, then three references.
    head += struct.pack("<6H", 12, 16, 4, 8, 0, 12)
    places = (version + moved, model + moved, start + _unsigned(table, 0))
    head += struct.pack("<i3I", _ROOT - 8, *(at - _ROOT - 4 * n for n, at in enumerate(places, 1)))
    return (head.ljust(start, b"\0") + table).ljust(size, b"\0") + data[graph:]


def _kernels(resolver: Any) -> bytes:
    """A flatbuffer of the kernels' table alone."""
    import flatbuffers
    from ort_flatbuffers_py.fbs import (
        ArgTypeAndIndex,
        KernelTypeStrArgsEntry,
        KernelTypeStrResolver,
        OpIdKernelTypeStrArgsEntry,
    )

    builder = flatbuffers.Builder(1024)

    def argument(one: Any) -> int:
        ArgTypeAndIndex.Start(builder)
        ArgTypeAndIndex.AddArgType(builder, one.ArgType())
        ArgTypeAndIndex.AddIndex(builder, one.Index())
        return int(ArgTypeAndIndex.End(builder))

    def types(one: Any) -> int:
        held = _vector(builder, [argument(one.Args(n)) for n in range(one.ArgsLength())])
        name = builder.CreateString(one.KernelTypeStr())
        KernelTypeStrArgsEntry.Start(builder)
        KernelTypeStrArgsEntry.AddKernelTypeStr(builder, name)
        KernelTypeStrArgsEntry.AddArgs(builder, held)
        return int(KernelTypeStrArgsEntry.End(builder))

    def operator(one: Any) -> int:
        count = one.KernelTypeStrArgsLength()
        held = _vector(builder, [types(one.KernelTypeStrArgs(n)) for n in range(count)])
        name = builder.CreateString(one.OpId())
        OpIdKernelTypeStrArgsEntry.Start(builder)
        OpIdKernelTypeStrArgsEntry.AddOpId(builder, name)
        OpIdKernelTypeStrArgsEntry.AddKernelTypeStrArgs(builder, held)
        return int(OpIdKernelTypeStrArgsEntry.End(builder))

    count = resolver.OpKernelTypeStrArgsLength()
    held = _vector(builder, [operator(resolver.OpKernelTypeStrArgs(n)) for n in range(count)])
    KernelTypeStrResolver.Start(builder)
    KernelTypeStrResolver.AddOpKernelTypeStrArgs(builder, held)
    builder.Finish(KernelTypeStrResolver.End(builder))
    return bytes(builder.Output())


def _vector(builder: Any, members: Sequence[int]) -> int:
    builder.StartVector(4, len(members), 4)
    for member in reversed(members):
        builder.PrependUOffsetTRelative(member)
    return int(builder.EndVector())


def _referred(data: bytes, table: int, field: int) -> int:
    """Where the thing lies that a table's field refers to; 0 for none."""
    places = table - _signed(data, table)
    if 4 + 2 * field >= _short(data, places):
        return 0
    at = _short(data, places + 4 + 2 * field)
    return table + at + _unsigned(data, table + at) if at else 0


def _unsigned(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _signed(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<i", data, at)[0])


def _short(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])
