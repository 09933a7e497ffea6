"""The file of an encoder in integers, and the session that tells what it sends."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...artifacts import OrtEncoder, replace_file
from ..exported import open_exported
from ..onnx_file import parity, written
from ..probes import synthetic_images
from .exporting import float_graph, int8_graph

if TYPE_CHECKING:
    import onnx

    from ...encoders import Encoder


def write_int8(
    encoder: Encoder, path: Path, *, seed: int = 0, graph: onnx.ModelProto | None = None
) -> dict[str, Any]:
    """Write an encoder whose spec has ``int8`` as ONNX, in integers; returns what ``export_module`` does.

    The float32 ``graph`` that it is made of (default: exported here) is checked against torch:
    ``max_abs_error`` is its error. What the integers differ by is no error but their precision. Raises
    :class:`NegativeResult` when the float32 graph gives other values than torch, and :class:`InputError` when
    the spec's grids belong to another graph.
    """
    int8 = encoder.spec.int8
    assert int8 is not None
    graph = graph or float_graph(encoder)
    images = synthetic_images(encoder.input_size, seed=seed)
    with replace_file(path) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
        found = parity(encoder.plain(), temporary, [[images[row : row + 1]] for row in range(len(images))])
        temporary.write_bytes(int8_graph(graph, encoder, int8).SerializeToString(deterministic=True))
    return written(path, found)


def int8_session(encoder: Encoder, *, graph: onnx.ModelProto | None = None) -> OrtEncoder:
    """The encoder as it computes in integers, which torch does not; raises as :func:`write_int8` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        write_int8(encoder, path, graph=graph)
        return open_exported(encoder, path)
