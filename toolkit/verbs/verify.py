"""``privynet verify``: whether an artifact is whole and computes what it should."""

from __future__ import annotations

import secrets
from pathlib import Path
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
    SpecWeights,
)
from .export import tables


def verify(
    artifact: ArtifactPath,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY", help="It must be signed by the owner of this public key (PEM or OpenSSH)."
        ),
    ] = None,
    weights: SpecWeights = None,
    adapted_weights: AdaptedWeights = None,
    projection_weights: ProjectionWeights = None,
    allow_code: AllowCode = None,
    without_torch: Annotated[
        bool,
        typer.Option(
            "--without-torch",
            help="Do not rebuild the encoder to compare with: needs no torch.",
        ),
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Run the self-test there, too: local, ssh://USER@HOST[:PORT] or adb://SERIAL.",
        ),
    ] = None,
    as_json: Json = False,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**31 - 1,
            metavar="N",
            help="Draws the images that are compared with torch (default: drawn anew, known to nobody).",
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Check an artifact, a folder or a zip, that may come from anybody.

    Digests, signature, the graph before and after it is loaded, self-test, parity with torch. Exit code 3
    when a check fails, 2 when it is no artifact at all. Digests show that it is whole, not whom it is from:
    whoever changes it can make them anew. Against that help --key and, for the encoder, parity with torch.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...exporters import verify

        result = verify(
            artifact,
            key=key,
            weights=weights,
            adapted_weights=adapted_weights,
            projection_weights=projection_weights,
            allowed_code=allow_code or (),
            without_torch=without_torch,
            on=on,
            seed=seed,
            progress=progress,
        )
    screen.show(result, tables)
    errors = [finding for finding in result["findings"] if finding["severity"] == "error"]
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise NegativeResult(
            f"artifact {artifact} fails its check: {errors[0]['message']}{more}",
            hint="do not use it as it is; get a fresh copy or export it again",
        )
