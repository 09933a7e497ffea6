"""``privynet audit``: what attackers rebuild from what an encoder sends."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..audit_tables import audit_tables
from ..console import Screen
from ..options import (
    Accelerator,
    AdaptedWeights,
    AllowCode,
    Budget,
    Data,
    Debug,
    Force,
    Images,
    ImageSize,
    Json,
    Pairs,
    ProjectionWeights,
    Seed,
    SpecWeights,
    Where,
)


class AttackedSplit(StrEnum):
    """On which images an audit scores."""

    test = "test"
    select = "select"


def audit(
    subject: Annotated[
        Path, typer.Argument(metavar="RUN|SPEC|ARTIFACT", help="Whose chosen, named or exported encoder.")
    ],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="AUDIT", help="The new audit folder; without it RUN/audit, or SUBJECT-audit beside it."
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An attack to run, of those in docs/threat-model.md; without it, all. Repeatable.",
        ),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A private attribute to predict; without it, all. Repeatable."),
    ] = None,
    pairs: Pairs = 10_000,
    test_images: Annotated[int, typer.Option(min=1, metavar="N", help="At most so many to score on.")] = 1000,
    budget: Budget = 120.0,
    captures: Annotated[
        int, typer.Option(min=1, metavar="N", help="Captures of one scene, where the encoder adds noise.")
    ] = 16,
    auxiliary: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Images of another domain; without it, synthetic ones."),
    ] = None,
    split: Annotated[AttackedSplit, typer.Option(help="The images to score on.")] = AttackedSplit.test,
    control: Annotated[
        bool,
        typer.Option("--control/--no-control", help="Also attack the raw images, as a control."),
    ] = True,
    images: Images = True,
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
    """Attack an encoder, say what was recovered, and write a report.

    On the test split. The same command on its own AUDIT goes on after the last finished attack. Exit code 3
    when the strongest attack fails on the raw images: then low scores say nothing.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working(resume="the same command goes on after the last finished attack") as progress:
        from ..flow import audit_subject

        result = audit_subject(
            subject,
            data=data,
            out=out,
            attacks=attack or (),
            attributes=attribute or (),
            pairs=pairs,
            test_images=test_images,
            budget_s=budget,
            captures=captures,
            auxiliary=auxiliary,
            split=split.value,
            control=control,
            images=images,
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
    screen.show(result, audit_tables)
    if result["verdict"] == "inconclusive":
        raise typer.Exit(3)
