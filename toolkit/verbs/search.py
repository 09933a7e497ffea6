"""``privynet search``: finds the encoder for a device and a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ..console import Screen
from ..options import (
    Accelerator,
    BackboneArguments,
    Budget,
    Data,
    Debug,
    Force,
    Images,
    ImageSize,
    Json,
    Mean,
    Pairs,
    Seed,
    Std,
    Weights,
    Where,
)
from ..tables import limits_table, search_tables

if TYPE_CHECKING:
    import rich.table

    from ...encoders import BackboneName


def search(
    device: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The target: a device of the catalogue, or a profile.")
    ],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The new run folder; its own search goes on.")],
    backbone: Annotated[
        list[str] | None,
        typer.Option(metavar="B", help="bundled, timm:NAME, torchvision:NAME, MODULE:FACTORY; repeatable."),
    ] = None,
    weights: Weights = None,
    backbone_arg: BackboneArguments = None,
    mean: Mean = None,
    std: Std = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="An upper limit; without it the profile's. Repeatable."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="In all, pruned ones included.")] = 40,
    timeout: Annotated[
        float | None, typer.Option(min=1.0, metavar="SECONDS", help="Start no trial after so long.")
    ] = None,
    sampler: Annotated[str, typer.Option(metavar="NAME", help="tpe, gp, nsga2 or random.")] = "tpe",
    input_size: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Pixels of the encoder's input to try; repeatable.")
    ] = None,
    image_size: ImageSize = 64,
    train_images: Annotated[
        int, typer.Option(metavar="N", help="At most so many images for the heads of the trials.")
    ] = 10_000,
    pairs: Pairs = 5000,
    budget: Budget = 30.0,
    insecure_fixed_secret: Annotated[
        bool,
        typer.Option("--insecure-fixed-secret", help="A known secret: for tests, never to ship."),
    ] = False,
    images: Images = True,
    bench: Annotated[
        bool, typer.Option("--bench/--no-bench", help="Time the chosen encoder on this machine.")
    ] = True,
    accelerator: Where = Accelerator.auto,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Find the most accurate encoder within all limits.

    Limits come from --limit, else the device's profile, else r2=0.5. Exit code 3 when nothing is within them.
    The same command on its own RUN goes on where it was stopped.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working(resume="the same command goes on from here") as progress:
        from ...device_profiles import parse_limits
        from ..flow import resolve_limits, search_and_report

        wanted = parse_limits(limit or ())
        screen.note([limits_table(resolve_limits(wanted, device))])
        result = search_and_report(
            device=device,
            data=data,
            out=out,
            limits=wanted,
            backbones=_backbones(
                backbone or ["bundled"], weights=weights, mean=mean, std=std, arguments=backbone_arg or ()
            ),
            trials=trials,
            timeout_s=timeout,
            sampler=sampler,
            input_sizes=tuple(input_size or ()),
            image_size=image_size,
            train_images=train_images,
            attack_pairs=pairs,
            attack_budget_s=budget,
            insecure_fixed_secret=insecure_fixed_secret,
            images=images,
            bench=bench,
            seed=seed,
            accelerator=accelerator.value,
            force=force,
            progress=progress,
        )
    screen.show(result, _tables)
    if result["encoder"] is None:
        raise typer.Exit(3)


def _backbones(
    texts: Sequence[str],
    *,
    weights: str | None,
    mean: str | None,
    std: str | None,
    arguments: Sequence[str],
) -> list[BackboneName]:
    from ...encoders import parse_backbone

    short = {"--weights": weights, "--backbone-arg": arguments, "--mean": mean, "--std": std}
    given = [name for name, value in short.items() if value]
    if given and len(texts) != 1:
        raise InputError(
            f"{given[0]} with {len(texts)} backbones",
            hint=f"write it into the backbone it belongs to: --backbone NAME,{given[0].strip('-')}=…",
        )
    return [parse_backbone(text, weights=weights, mean=mean, std=std, arguments=arguments) for text in texts]


def _tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    yield from search_tables(result)
    yield f"report: {result['report']}"
