"""``privynet evaluate``: the end-to-end score of the two exported halves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import ArtifactPath, Data, Debug, ImageSize, Json, Seed
from ..tables import score_text

if TYPE_CHECKING:
    import rich.table


def evaluate(
    artifact: ArtifactPath,
    head: Annotated[Path, typer.Argument(metavar="HEAD", help="The folder that train-head wrote.")],
    data: Data,
    image_size: ImageSize = 64,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Score encoder and head end to end on the test split."""
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...cloud import evaluate

        result = evaluate(artifact, head, data=data, image_size=image_size, seed=seed, progress=progress)
    screen.show(result, _tables)


def _tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    yield f"accuracy end to end on the test split: {score_text(result['accuracy'])}"
    rows = [
        (name, f"{score['value']:.1%}" if score else "no test image", score["n"] if score else 0)
        for name, score in result["per_class"].items()
    ]
    yield table(["class", ">accuracy", ">images"], rows)
    yield f"payload: {result['payload_bytes']:,} bytes per image"
