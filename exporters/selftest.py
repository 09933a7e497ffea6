"""The self-test: images, noise where it is added, and what must then be sent, row by row."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import Manifest, OrtEncoder, Payload
from .agreement import INT8_NOISE, TOLERANCE, Agreement, compare
from .probes import with_noise

_MOST_ROWS = 64
_MOST_DIRECTORY_BYTES = 2**12
_END = struct.Struct("<4s4H2LH")
_LONG_END_BYTES = 20

Rows = dict[str, NDArray[Any]]


class BadSelfTest(Exception):
    """A file that is no self-test of the artifact that it lies in."""


def write_selftest(path: Path, session: OrtEncoder, images: NDArray[np.uint8], *, seed: int) -> Rows:
    """Feed images, and noise where it is added, and keep them with what was sent. Returns the arrays."""
    images, noise = with_noise(images, session.feature_shape if session.noise_std else None, seed=seed)
    # A payload's integers have no tolerance to state: they may differ by one step.
    stated: Rows = {} if session.payload.quantised else {"tolerance": np.array(TOLERANCE, np.float32)}
    fed: Rows = {"images": images} if noise is None else {"images": images, "noise": noise}
    sent: Rows = {session.payload.output_name: session.send(images, noise)}
    rows: Rows = {**fed, **sent, **stated}
    np.savez(path, allow_pickle=False, **rows)
    return rows


def read_selftest(path: Path, manifest: Manifest) -> Rows:
    """The arrays of a self-test, each of the type and the shape, but for the rows, that the manifest wants.

    Raises ``BadSelfTest``, before anything is made that the file is not large enough for.
    """
    wanted = _wanted(manifest)
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            names = sorted(name.removesuffix(".npy") for name in entries)
            if names != sorted(wanted) or len(entries) != len(archive.infolist()):
                raise BadSelfTest(f"holds {', '.join(names)[:200]}, expected {', '.join(sorted(wanted))}")
            rows: Rows = {}
            for name, (dtype, shape) in wanted.items():
                entry = entries[f"{name}.npy"]
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > path.stat().st_size:
                    raise BadSelfTest(f"holds {name} compressed, or smaller than declared")
                with archive.open(entry) as stream:
                    rows[name] = _array(stream, entry.file_size, name, dtype, shape)
    except _UNREADABLE as error:
        raise BadSelfTest(f"cannot be read: {error}") from error
    if len({len(array) for array in rows.values() if array.ndim}) != 1:
        raise BadSelfTest("has not as many rows of each")
    return rows


def selftest_agreement(rows: Rows, sent: NDArray[Any], payload: Payload, *, in_int8: bool) -> Agreement:
    """How far what was sent for the rows is from what should have been.

    ``in_int8``: the encoder computes on integers, which another processor rounds otherwise now and then.
    """
    # A forged tolerance must not let everything through.
    tolerance = min(float(rows.get("tolerance", np.float32(0))), TOLERANCE)
    allowed_noise = INT8_NOISE if in_int8 else 0.0
    wanted = rows[payload.output_name]
    return compare(sent, wanted, payload, tolerance=tolerance, allowed_noise=allowed_noise)


def selftest_inputs(rows: Rows) -> Rows:
    """What is fed, by name: images, and noise where it is added."""
    return {name: rows[name] for name in ("images", "noise") if name in rows}


_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
)
"""What zip archives and array headers that are damaged raise."""


def _wanted(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """Type and shape of each array, without the rows; ``None`` for a single number."""
    wanted: dict[str, tuple[str, tuple[int, ...] | None]] = {
        "images": (manifest.input.dtype, manifest.input.shape[1:]),
        manifest.payload.output_name: (manifest.output.dtype, manifest.output.shape[1:]),
    }
    if manifest.noise is not None:
        wanted["noise"] = (manifest.noise.dtype, manifest.noise.shape[1:])
    if not manifest.payload.quantised:
        wanted["tolerance"] = ("float32", None)
    return wanted


def _check_directory(path: Path) -> None:
    """Raise unless the archive has a short directory: all of it is read at once."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _END.size - _LONG_END_BYTES))
        tail = stream.read()
    if len(tail) < _END.size + _LONG_END_BYTES:
        raise BadSelfTest("is cut off")
    mark, *_, directory_bytes, _, comment = _END.unpack(tail[_LONG_END_BYTES:])
    if mark != b"PK\x05\x06" or tail[:4] == b"PK\x06\x07" or comment:
        raise BadSelfTest("is no archive of arrays")
    if directory_bytes > _MOST_DIRECTORY_BYTES:
        raise BadSelfTest("holds more than a self-test has")


def _array(
    stream: IO[bytes], size: int, name: str, dtype: str, shape: tuple[int, ...] | None
) -> NDArray[Any]:
    if np.lib.format.read_magic(stream) != (1, 0):
        raise BadSelfTest(f"holds {name} in another version of the format")
    found, fortran, kind = np.lib.format.read_array_header_1_0(stream)
    rows = () if shape is None else found[:1]
    if kind != np.dtype(dtype) or fortran or found != (*rows, *(shape or ())):
        raise BadSelfTest(
            f"has other shapes or types than the graph: {name} {str(kind)[:40]} {str(found)[:80]}"
        )
    if shape is not None and not 1 <= found[0] <= _MOST_ROWS:
        raise BadSelfTest(f"has {found[0]} rows, allowed: 1 to {_MOST_ROWS}")
    expected = math.prod(found) * kind.itemsize
    # The header is part of the size that is declared.
    if expected > size:
        raise BadSelfTest(f"declares {expected} bytes of {name} and has fewer")
    data = stream.read(expected + 1)
    if len(data) != expected:
        raise BadSelfTest(f"declares {expected} bytes of {name} and has others")
    return np.frombuffer(data, kind).reshape(found)
