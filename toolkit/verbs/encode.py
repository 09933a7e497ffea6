"""``privynet encode``: images to encoded shards, as the devices would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen
from ..options import ArtifactPath, Data, Debug, Force, ImageSize, Json, Seed

if TYPE_CHECKING:
    import rich.table


def encode(
    artifact: ArtifactPath,
    data: Data,
    split: Annotated[
        str, typer.Option(help="head-train, attack-train, attack-val, select or test.", metavar="NAME")
    ],
    out: Annotated[Path, typer.Option(metavar="SHARDS", help="The new folder of shards.")],
    max_images: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the split's first.")
    ] = None,
    image_size: ImageSize = 64,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Run the exported encoder over data, as the devices would."""
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...cloud import encode

        result = encode(
            artifact,
            data=data,
            split=split,
            out=out,
            force=force,
            image_size=image_size,
            limit=max_images,
            progress=progress,
        )
    screen.show(result, _tables)


def _tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    yield f"{result['n']:,} images encoded into {result['shards']} by encoder {result['encoder_digest'][:12]}"
