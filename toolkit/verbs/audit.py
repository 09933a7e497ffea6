"""``privynet audit``: what an attacker rebuilds from what an encoder sends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import (
    Accelerator,
    AllowCode,
    Budget,
    Data,
    Debug,
    ImageSize,
    Json,
    Pairs,
    Seed,
    SpecWeights,
    Where,
)
from ..tables import score_text

if TYPE_CHECKING:
    import rich.table


def audit(
    subject: Annotated[
        Path, typer.Argument(metavar="RUN|SPEC|ARTIFACT", help="Whose chosen, named or exported encoder.")
    ],
    data: Data,
    attack: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An attack to run; without it, all.")
    ] = None,
    pairs: Pairs = 5000,
    budget: Budget = 120.0,
    control: Annotated[
        bool,
        typer.Option("--control/--no-control", help="Also attack the raw images, as a control."),
    ] = True,
    image_size: ImageSize = 64,
    weights: SpecWeights = None,
    allow_code: AllowCode = None,
    accelerator: Where = Accelerator.auto,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Attack an encoder and say what was recovered.

    On the test split. Exit code 3 when the attacker fails on the raw images: then low scores say nothing.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ..flow import audit_subject

        result = audit_subject(
            subject,
            data=data,
            attacks=attack or (),
            pairs=pairs,
            budget_s=budget,
            control=control,
            image_size=image_size,
            weights=weights,
            allowed_code=allow_code or (),
            accelerator=accelerator.value,
            seed=seed,
            progress=progress,
        )
    screen.show(result, _tables)
    if result["verdict"] == "inconclusive":
        raise typer.Exit(3)


def _tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    rows = [
        ("strongest attack", *_scores(result["strongest"])),
        *(
            (f"  {attack['attack']} (knows {attack['knows']})", *_scores(attack))
            for attack in result["attacks"]
        ),
        ("label-only floor: the class mean image", *_scores(result["label_only"])),
        ("blind guess: the mean image", *_scores(result["blind"])),
    ]
    if result["positive_control"]:
        rows.append(("positive control: raw images", *_scores(result["positive_control"])))
    yield table(["what is recovered", ">PSNR (dB)", ">SSIM", ">R2"], rows)
    for warning in result["warnings"]:
        yield f"note: {warning}"
    yield "one attacker family so far: a stronger attacker may recover more"


def _scores(scores: Mapping[str, Any]) -> tuple[str, str, str]:
    return (
        score_text(scores["psnr_db"], ".1f"),
        score_text(scores["ssim"], ".3f"),
        score_text(scores["r2"], ".3f"),
    )
