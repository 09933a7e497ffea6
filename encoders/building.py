"""Encoders made from a backbone, rebuilt from a spec, and written to files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .adapted import read_adapted, write_adapted
from .backbones import RANDOM, Backbone, MissingWeights, load_backbone, parse_backbone
from .encoder import Encoder
from .payload import Payload
from .projection import (
    Matrix,
    check_projection,
    projection_digest,
    projection_matrix,
    read_projection,
    write_projection,
)
from .spec import EncoderSpec, Projection, ProjectionMethod, UnfitSpec, new_salt
from .splitter import Splitter


def make_encoder(
    splitter: Splitter,
    *,
    cut: str,
    channels: Sequence[int] | None = None,
    projection: NDArray[np.floating[Any]] | Tensor | None = None,
    projection_method: ProjectionMethod = "given",
    payload: Payload | None = None,
    noise_std: float = 0.0,
    salt: str | None = None,
) -> Encoder:
    """The encoder of a loaded backbone at ``cut`` with ``channels`` (default: all), as a new spec.

    ``projection``: a matrix (D', number of ``channels``); the encoder then sends the D' mixtures
    sum over c of ``projection[d, c]`` * channel c, and ``projection_method`` says how they were found.

    Raises:
        InputError: no such cut or channels, a projection of other channels, a backbone of shapes only, or a
            negative ``noise_std``.
    """
    backbone = splitter.backbone
    if backbone.weights_digest is None:
        raise InputError("an encoder needs the backbone's weights, not its shapes only")
    kept = tuple(range(splitter.cut(cut).channels)) if channels is None else tuple(channels)
    matrix = None if projection is None else projection_matrix(projection)
    graph_module, gathers = splitter.graph(cut, kept, projection=_tensor(matrix))
    weights = backbone.name.weights
    spec = EncoderSpec(
        backbone=backbone.name.architecture,
        weights_digest=backbone.weights_digest,
        mean=backbone.mean,
        std=backbone.std,
        input_size=splitter.input_size,
        cut=cut,
        channels=kept,
        gathers=gathers,
        projection=None
        if matrix is None
        else Projection(outputs=len(matrix), method=projection_method, digest=projection_digest(matrix)),
        salt=salt or new_salt(),
        # Absolute, so that the spec is also found from another folder.
        weights=weights if weights in (None, RANDOM) else str(Path(weights).resolve()),
    )
    return Encoder(spec, graph_module).sending(payload=payload, noise_std=noise_std)


def build_encoder(
    spec: EncoderSpec,
    *,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | Matrix | None = None,
    allowed_code: Collection[str] = (),
) -> Encoder:
    """Rebuild the encoder of a spec; twice gives equal weights.

    ``weights``, ``adapted_weights`` and ``projection_weights`` say where these lie if not where the spec
    says; the last may also be the matrix itself. ``allowed_code`` holds the ``module:factory`` names that may
    be imported: a document alone never gets code imported.

    Raises:
        InputError: weights or a projection of another digest.
        UnfitSpec: a spec that does not fit its backbone.
    """
    matrix = _spec_matrix(spec, adapted_weights, projection_weights)
    backbone = load_spec_backbone(spec, weights=weights, allowed_code=allowed_code)
    try:
        splitter = Splitter(backbone, spec.input_size)
        graph_module, gathers = splitter.graph(spec.cut, spec.channels, projection=_tensor(matrix))
    except InputError as error:
        raise UnfitSpec(error.message, hint=error.hint) from error
    if gathers != spec.gathers:
        raise UnfitSpec(f"the spec says {spec.gathers} gathers, the encoder has {gathers}")
    if spec.adapted is not None:
        file = adapted_weights or spec.adapted_weights
        graph_module = read_adapted(graph_module, file, digest=spec.adapted.digest)
    return Encoder(spec, graph_module)


def _tensor(matrix: NDArray[np.float32] | None) -> Tensor | None:
    return None if matrix is None else torch.tensor(matrix)


def _spec_matrix(
    spec: EncoderSpec, adapted_weights: str | None, projection_weights: str | Matrix | None
) -> NDArray[np.float32] | None:
    """The matrix of a spec's projection; zeros where adapted weights are still to be put in their place."""
    if adapted_weights is not None and spec.adapted is None:
        raise InputError("the encoder was not adapted", hint="leave out --adapted-weights")
    if projection_weights is not None and spec.projection is None:
        raise InputError("the encoder has no projection", hint="leave out --projection-weights")
    if projection_weights is not None and spec.adapted is not None:
        raise InputError(
            "the adapted weights hold the projection too",
            hint="leave out --projection-weights; give --adapted-weights",
        )
    if spec.projection is None:
        return None
    if spec.adapted is not None:
        return np.zeros((spec.projection.outputs, len(spec.channels)), np.float32)
    if isinstance(projection_weights, np.ndarray):
        return check_projection(projection_weights, spec.projection, source="the projection")
    file = projection_weights or spec.projection_weights
    return read_projection(file, spec.projection, channels=len(spec.channels))


def load_spec_backbone(
    spec: EncoderSpec, *, weights: str | None = None, allowed_code: Collection[str] = ()
) -> Backbone:
    """The backbone that a spec was made from; arguments and errors as for ``build_encoder``."""
    name = parse_backbone(spec.backbone)
    if name.is_factory and f"{name.kind}:{name.name}" not in allowed_code:
        raise InputError(
            f"the spec names code to import, {name.kind}:{name.name}",
            hint="repeat it with --backbone to allow that",
        )
    found = replace(name, weights=weights or spec.weights, mean=spec.mean, std=spec.std)
    try:
        backbone = load_backbone(found)
    except MissingWeights as error:
        raise InputError(
            error.message, hint="give the file that the encoder was made from with --weights"
        ) from error
    if backbone.weights_digest != spec.weights_digest:
        raise InputError(
            f"weights of {spec.backbone} have digest {str(backbone.weights_digest)[:12]}…, the spec says "
            f"{spec.weights_digest[:12]}…",
            hint="give the file that the encoder was made from with --weights",
        )
    return backbone


def write_encoder(encoder: Encoder, path: Path, *, weights: str | None = None) -> EncoderSpec:
    """Write an encoder's spec to ``path`` and, beside it, what neither spec nor backbone holds.

    That is ``path`` with the suffix ``.safetensors``: all weights where they were adapted, or the
    projection's matrix; no file where there is neither. ``weights``: where the backbone's lie now, if they
    have moved. Returns the spec as written, whose hint is relative to its folder: ``EncoderSpec.read`` finds
    the file.
    """
    file = path.with_suffix(".safetensors")
    changes: dict[str, Any] = {"adapted_weights": None, "projection_weights": None}
    if weights is not None:
        changes["weights"] = weights if weights == RANDOM else str(Path(weights).resolve())
    matrix = encoder.projection
    if encoder.spec.adapted is not None:
        write_adapted(encoder, file)
        changes["adapted_weights"] = file.name
    elif matrix is not None:
        write_projection(matrix, file)
        changes["projection_weights"] = file.name
    spec = encoder.spec.model_copy(update=changes)
    spec.write(path)
    return spec
