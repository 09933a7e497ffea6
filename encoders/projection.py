"""The projection of an encoder: a 1x1 convolution without bias over its channels, and its matrix in a file.

Keeping channels is the special case of a matrix whose rows are rows of the identity.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ..artifacts import replace_file
from ..errors import InputError
from .operators import new_module
from .spec import Projection

Matrix = NDArray[np.float32]
"""(D', C): row by row how one of D' outputs mixes C channels."""

_NAME = "projection"
_HINT = "give the file that was written with the encoder with --projection-weights FILE"


def projection_matrix(values: NDArray[np.floating[Any]] | Tensor) -> Matrix:
    """Values (D', C) as the float32 matrix that an encoder holds.

    Raises:
        InputError: they are no matrix, empty, or not finite in float32.
    """
    given = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(given, np.float32)
    if np.ndim(given) != 2 or not matrix.size:
        raise InputError(
            f"a projection of shape {np.shape(given)}",
            hint="give a matrix (outputs, channels), at least one of each",
        )
    if not np.isfinite(matrix).all():
        raise InputError("the projection's matrix is not finite")
    return matrix


def projection_digest(matrix: Matrix) -> str:
    """SHA-256 (hex) over a matrix's type, shape and bytes (little-endian, row by row)."""
    digest = hashlib.sha256(f"float32 {matrix.shape}\n".encode())
    digest.update(np.ascontiguousarray(matrix, "<f4").tobytes())
    return digest.hexdigest()


def add_projection(graph_module: fx.GraphModule, projection: Tensor | int) -> None:
    """Let an encoder's graph end with a projection, in place.

    ``projection``: the matrix (D', C), or only D' where nothing but shapes matters.

    Raises:
        InputError: the matrix is of another number of channels, or D' is not positive.
    """
    output = next(node for node in graph_module.graph.nodes if node.op == "output")
    source = output.all_input_nodes[0]
    batch, channels, height, width = source.meta["shape"]
    outputs = projection if isinstance(projection, int) else len(projection)
    if outputs < 1:
        raise InputError(f"a projection to {outputs} channels", hint="needed: 1 or more")
    # on the meta device nothing is drawn: random generators stay where they are
    convolution = nn.Conv2d(channels, outputs, 1, bias=False, device="meta").eval()
    if isinstance(projection, Tensor):
        if projection.shape[1:] != (channels,):
            raise InputError(
                f"the projection mixes {projection.shape[1]} channels, the encoder has {channels}"
            )
        convolution.weight = nn.Parameter(projection.to(torch.float32)[:, :, None, None].contiguous())
    convolution.requires_grad_(False)
    with graph_module.graph.inserting_before(output):
        mixed = graph_module.graph.call_module(new_module(graph_module, _NAME, convolution), (source,))
    mixed.meta["shape"] = (batch, outputs, height, width)
    output.args = (mixed,)
    graph_module.recompile()


def matrix_of(graph_module: fx.GraphModule) -> Matrix:
    """The matrix, as it is now, of a graph that ends with a projection."""
    output = next(node for node in graph_module.graph.nodes if node.op == "output")
    convolution = graph_module.get_submodule(str(output.all_input_nodes[0].target))
    assert isinstance(convolution, nn.Conv2d)
    return projection_matrix(convolution.weight[:, :, 0, 0])


def write_projection(matrix: Matrix, path: Path) -> str:
    """Write a matrix as safetensors; returns its digest, as in the spec's ``projection``.

    Put the file's name into the spec's ``projection_weights``.
    """
    from safetensors.numpy import save_file

    with replace_file(path) as temporary:
        save_file({_NAME: projection_matrix(matrix)}, temporary)
    return projection_digest(matrix)


def read_projection(file: str | None, projection: Projection, *, channels: int) -> Matrix:
    """The matrix of a spec's projection of ``channels`` channels, from a safetensors file.

    Raises:
        InputError: there is no such file, it is no safetensors file, or it holds another matrix.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if file is None or not Path(file).is_file():
        where = "" if file is None else f": {file} does not exist"
        raise InputError(
            f"the encoder's projection matrix is not there{where}",
            hint="give encoder.safetensors, which was written beside the spec, with --projection-weights",
        )
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is not a safetensors file: {reason}", hint=_HINT) from error
    matrix = tensors.get(_NAME)
    wanted = (projection.outputs, channels)
    if matrix is None or len(tensors) != 1:
        raise InputError(f"{file} does not hold a projection alone", hint=_HINT)
    if matrix.shape != wanted or matrix.dtype != np.float32:
        raise InputError(
            f"the projection in {file} is {matrix.dtype} {matrix.shape}, not float32 {wanted}", hint=_HINT
        )
    return check_projection(matrix, projection, source=f"the projection in {file}")


def check_projection(matrix: Matrix, projection: Projection, *, source: str) -> Matrix:
    """The matrix, if it is the one that a spec's projection names; ``source`` is what errors call it.

    Raises:
        InputError: it is another one.
    """
    found = projection_digest(matrix)
    if found != projection.digest:
        raise InputError(
            f"{source} has digest {found[:12]}…, the spec says {projection.digest[:12]}…", hint=_HINT
        )
    return projection_matrix(matrix)
