"""``privynet verify``: whether an artifact is whole and computes what it should."""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import NegativeResult
from ..console import Screen
from ..options import (
    AdaptedWeights,
    AllowCode,
    ArtifactPath,
    Debug,
    Json,
    ProjectionWeights,
    Seed,
    SpecWeights,
)
from .export import tables


def verify(
    artifact: ArtifactPath,
    weights: SpecWeights = None,
    adapted_weights: AdaptedWeights = None,
    projection_weights: ProjectionWeights = None,
    allow_code: AllowCode = None,
    without_torch: Annotated[
        bool, typer.Option("--without-torch", help="Do not rebuild the encoder to compare with.")
    ] = False,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Check an artifact.

    Digests, graph, self-test, parity with torch; exit code 3 when a check fails.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...exporters import verify

        result = verify(
            artifact,
            weights=weights,
            adapted_weights=adapted_weights,
            projection_weights=projection_weights,
            allowed_code=allow_code or (),
            without_torch=without_torch,
            progress=progress,
        )
    screen.show(result, tables)
    errors = [finding for finding in result["findings"] if finding["severity"] == "error"]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise NegativeResult(
            f"artifact {artifact} fails its check: {errors[0]['message']}{more}",
            hint="get a fresh copy or export it again",
        )
