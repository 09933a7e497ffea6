"""``privynet defend``: an encoder that leaks less, as a new spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import (
    Accelerator,
    AdaptedWeights,
    AllowCode,
    Data,
    Debug,
    Force,
    ImageSize,
    Json,
    ProjectionWeights,
    Seed,
    SpecWeights,
    Where,
)
from ..tables import score_text

if TYPE_CHECKING:
    import rich.table


def defend(
    subject: Annotated[Path, typer.Argument(metavar="RUN|SPEC", help="A search's --out or an encoder.json.")],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The new folder for the changed encoder.")],
    nopeek: Annotated[
        float | None,
        typer.Option(metavar="ALPHA", help="Fine-tune: task loss + ALPHA * distance correlation."),
    ] = None,
    noise_std: Annotated[
        float | None, typer.Option(metavar="S", help="Standard deviation of added noise, in features' units.")
    ] = None,
    noise_share: Annotated[
        float | None, typer.Option(metavar="S", help="The same, times the features' standard deviation.")
    ] = None,
    payload_bits: Annotated[
        int | None, typer.Option(metavar="32|8|4|2", help="Bits of each value that leaves the device.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Optimiser steps of NoPeek.")] = 600,
    budget: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="End NoPeek sooner; it then depends on the clock."),
    ] = None,
    image_size: ImageSize = 64,
    weights: SpecWeights = None,
    adapted_weights: AdaptedWeights = None,
    projection_weights: ProjectionWeights = None,
    allow_code: AllowCode = None,
    accelerator: Where = Accelerator.auto,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Change an encoder so that it leaks less: NoPeek, noise, fewer bits.

    Writes a new spec, its own weights and what was measured. What an attacker still rebuilds is for
    audit to say.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...defences import defend

        result = defend(
            subject,
            data=data,
            out=out,
            nopeek=nopeek,
            noise_std=noise_std,
            noise_share=noise_share,
            payload_bits=payload_bits,
            steps=steps,
            budget_s=budget,
            image_size=image_size,
            weights=weights,
            adapted_weights=adapted_weights,
            projection_weights=projection_weights,
            allowed_code=allow_code or (),
            accelerator=accelerator.value,
            force=force,
            seed=seed,
            progress=progress,
        )
    screen.show(result, _tables)


def _tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    before, after = result["dcor"]["before"], result["dcor"]["after"]
    rows = [
        ("distance correlation, bias-corrected", f"{before['corrected']:.3f}", f"{after['corrected']:.3f}"),
        ("distance correlation, biased", f"{before['biased']:.3f}", f"{after['biased']:.3f}"),
        ("payload (bytes)", *(f"{result['payload_bytes'][at]:,}" for at in ("before", "after"))),
    ]
    nopeek, noise, payload = result["nopeek"], result["noise"], result["payload"]
    if nopeek:
        accuracy = [score_text(nopeek[at]["accuracy"], ".1%") for at in ("before", "after")]
        ranks = nopeek["collapse"]["effective_rank"]
        rows.append(("accuracy of NoPeek's own head", accuracy[0], accuracy[1]))
        rows.append(("effective rank", f"{ranks['before']:.1f}", f"{ranks['after']:.1f}"))
    yield table([f"on {after['n']} held-out images", ">before", ">after"], rows)
    if nopeek:
        fit = nopeek["fit"]
        yield f"NoPeek: alpha {nopeek['alpha']:g}, {fit['steps']} steps of {fit['batch']} images"
    if noise:
        share = f", {noise['share']:.3g} of the features'" if noise["share"] is not None else ""
        yield f"noise: standard deviation {noise['std']:.3g}{share}"
    yield f"payload: {payload['bits']} bits a value, {payload['bytes']:,} bytes an image"
    for warning in result["warnings"]:
        yield f"warning: {warning}"
    yield f"new spec: {result['spec']}; privynet audit it: a lower distance correlation is no proof"
