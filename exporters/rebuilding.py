"""The encoder that an artifact's spec names, rebuilt, and compared with what the artifact sends."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..artifacts import Artifact, Manifest
from ..encoders.spec import EncoderSpec
from ..errors import InputError
from .agreement import compare
from .exported import open_exported
from .findings import Finding, finding, warning
from .onnx_rewrites import REWRITES_FOR
from .probes import probes, varied_images
from .shipped_projection import shipped_projection
from .tools import tool_versions

if TYPE_CHECKING:
    from ..artifacts import OrtEncoder
    from ..encoders import Encoder

_MOST_WEIGHTS = 2**32
"""Bytes of a backbone that a spec may have built: anybody may have written it."""


@dataclass(frozen=True)
class Fed:
    """Images (n, H, H, 3), noise where it is added, and the seed that they were drawn with."""

    images: NDArray[np.uint8]
    noise: NDArray[np.float32] | None
    seed: int


def fed_images(manifest: Manifest, seed: int) -> Fed:
    """Edge cases, and noise of every grain."""
    size = manifest.input.shape[1]
    images, noise = probes(size, manifest.feature_shape if manifest.noise_std else None, seed=seed)
    varied = varied_images(size, seed=seed)
    if noise is not None:
        noise = np.concatenate([noise, np.zeros((len(varied), *noise.shape[1:]), np.float32)])
    return Fed(np.concatenate([images, varied]), noise, seed)


def check_parity(
    artifact: Artifact,
    spec: EncoderSpec,
    fed: Fed,
    sent: NDArray[Any],
    *,
    projection_weights: str | None,
    **where: Any,
) -> tuple[dict[str, Any] | str, list[Finding]]:
    """Compare what an artifact has ``sent`` for what it was fed with the encoder that its spec names.

    ``where``: the other arguments of ``build_encoder``. Returns ``max_abs_error``, ``same_bytes`` (whether
    exporting it again gives the same graph; ``None`` where other versions made it) and ``seed``, or
    ``"not_run"``; and findings. Raises :class:`InputError` where the backbone's weights are not to be had.
    """
    from ..encoders import UnfitSpec
    from ..encoders.building import build_encoder

    projection = projection_weights or shipped_projection(artifact.model, spec)
    if spec.projection is not None and spec.int8 is not None and projection is None and spec.adapted is None:
        message = "not compared with torch: integers do not hold the projection; give --projection-weights"
        return "not_run", [warning("not_compared", "encoder.onnx", message)]
    try:
        _check_size(spec)
        encoder = build_encoder(spec, projection_weights=projection, **where)
        with tempfile.TemporaryDirectory() as folder:
            exact, same = _rebuilt(encoder, artifact, Path(folder))
    except UnfitSpec as error:
        return "not_run", [finding("spec", "encoder.json", error.message)]
    if encoder.feature_shape != artifact.manifest.feature_shape:
        told = artifact.manifest.feature_shape
        message = f"the manifest says features {told}, torch gives {encoder.feature_shape}"
        return "not_run", [finding("parity", "encoder.onnx", message)]
    rows = range(len(fed.images))
    wanted = [exact.send(fed.images[[row]], None if fed.noise is None else fed.noise[[row]]) for row in rows]
    found = compare(sent, np.concatenate(wanted), spec.payload)
    findings = [] if found.holds else [finding("parity", "encoder.onnx", f"differs from torch by {found}")]
    if found.holds and same is False:
        message = f"these versions export it otherwise: it was compared on {len(rows)} images alone"
        findings = [warning("other_bytes", "encoder.onnx", message)]
    if not np.isfinite(found.max_abs_error):  # JSON has no infinity
        return "not_run", findings
    return {"max_abs_error": found.max_abs_error, "same_bytes": same, "seed": fed.seed}, findings


def _check_size(spec: EncoderSpec) -> None:
    """Raise ``UnfitSpec`` for a backbone that is too large to be built: anybody may have written the spec."""
    from ..encoders import UnfitSpec, load_backbone, parse_backbone

    name = replace(parse_backbone(spec.backbone), mean=spec.mean, std=spec.std)
    if name.is_factory:
        return  # code of the user's own, which is imported only where it is allowed
    shapes = load_backbone(name, shapes_only=True)
    size = sum(one.numel() * one.element_size() for one in shapes.module.state_dict().values())
    if size > _MOST_WEIGHTS:
        raise UnfitSpec(f"its backbone has {size >> 20:,} MiB of weights, at most {_MOST_WEIGHTS >> 20:,}")


def _rebuilt(encoder: Encoder, artifact: Artifact, folder: Path) -> tuple[Encoder | OrtEncoder, bool | None]:
    """What tells the right outputs, and whether exporting it again gives the artifact's graph."""
    from ..encoders import UnfitSpec
    from .export import write_onnx

    manifest, file = artifact.manifest, folder / "encoder.onnx"
    told = manifest.tool_version == __version__ and tool_versions().items() <= manifest.tools.items()
    digest = manifest.files["encoder.onnx"].sha256
    if encoder.spec.int8 is not None:
        try:
            written = write_onnx(encoder, file)
        except InputError as error:
            raise UnfitSpec(error.message, hint=error.hint) from error
        # Torch computes in float32: only integers made anew from the spec's grids tell what is right.
        return open_exported(encoder, file), written["sha256"] == digest if told else None
    if not told:
        return encoder, None
    ways = (None, *REWRITES_FOR)
    return encoder, any(write_onnx(encoder, file, for_runtime=way)["sha256"] == digest for way in ways)
