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
    Debug,
    Force,
    Images,
    ImageSize,
    Json,
    Mean,
    OptionalData,
    Pairs,
    Seed,
    Std,
    Weights,
    Where,
)
from ..tables import explanation_tables, limits_table, search_tables

if TYPE_CHECKING:
    import rich.table

    from ...encoders import BackboneName


def search(
    out: Annotated[Path, typer.Option(metavar="RUN", help="The new run folder; its own search goes on.")],
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The target: a device of the catalogue, or a profile."),
    ] = None,
    data: OptionalData = None,
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
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="In all, by all workers.")] = 40,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=1.0, metavar="SECONDS", help="Start no trial after so long; certifying comes on top."
        ),
    ] = None,
    sampler: Annotated[str, typer.Option(metavar="NAME", help="tpe, gp, nsga2 or random.")] = "tpe",
    input_size: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Pixels of the encoder's input to try; repeatable.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="How channels may be chosen: random, fisher, leak-prune, joint, projection, adversarial; "
            "repeatable, without it all.",
        ),
    ] = None,
    noise_share: Annotated[
        list[float] | None,
        typer.Option(
            metavar="SHARE", help="Noise to try, of the features' standard deviation (0: none); repeatable."
        ),
    ] = None,
    payload_bits: Annotated[
        list[int] | None, typer.Option(metavar="BITS", help="32, 8, 4 or 2 bits to try; repeatable.")
    ] = None,
    image_size: ImageSize = 64,
    train_images: Annotated[
        int, typer.Option(metavar="N", help="At most so many images for the heads of the trials.")
    ] = 10_000,
    select_images: Annotated[
        int, typer.Option(metavar="N", help="At most so many images to compare candidates on.")
    ] = 2000,
    pairs: Pairs = 5000,
    budget: Budget = 30.0,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="PRIVYNET_STORAGE",
            help="Keep the study in a database that many machines share: postgresql://USER@HOST/DATABASE. "
            "Without it, in RUN.",
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="The study's name in --storage (default: privynet).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that run trials here.")] = 1,
    certify: Annotated[
        int,
        typer.Option(
            min=1, metavar="K", help="So many of the best are built and attacked with all strength."
        ),
    ] = 5,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Try another run's best candidates first.")
    ] = None,
    explain: Annotated[
        int | None,
        typer.Option(min=0, metavar="TRIAL", help="Search nothing; say why a trial of RUN went no further."),
    ] = None,
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
    The same command on its own RUN goes on where it was stopped; with one --storage, on many machines and
    each with its own RUN, it shares the trials.
    """
    screen = Screen(as_json=as_json, seed=seed)
    if explain is not None:
        from ...search import explain as explain_trial

        screen.show(explain_trial(out, explain), explanation_tables)
        return
    if device is None or data is None:
        missing = "--device" if device is None else "--data"
        raise InputError(f"missing option '{missing}'", hint="a search needs it; --explain does not")
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
            select_images=select_images,
            attack_pairs=pairs,
            attack_budget_s=budget,
            insecure_fixed_secret=insecure_fixed_secret,
            images=images,
            policies=tuple(policy or ()),
            noise_shares=tuple(noise_share or ()),
            payload_bits=tuple(payload_bits or ()),
            certify=certify,
            warm_start=warm_start,
            storage=storage,
            study=study,
            workers=workers,
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
