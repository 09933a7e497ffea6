"""``privynet cuts``: every place where a backbone can be cut, with what the encoder up to there costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import BackboneArguments, Debug, Json, Seed

if TYPE_CHECKING:
    import rich.table


def cuts(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="Such as bundled or timm:resnet18.")],
    input_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pixels of the input; else the backbone's own."),
    ] = None,
    backbone_arg: BackboneArguments = None,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """List every cut of a backbone with its costs.

    They are those of the encoder up to the cut, all channels kept. Works on shapes: no weights are read.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress, progress.task(f"tracing {backbone}"):
        from dataclasses import replace

        from ...encoders import Splitter, load_backbone, parse_backbone

        name = parse_backbone(backbone, arguments=backbone_arg or ())
        # Weights and preprocessing change no shape, and a weights file alone is an error elsewhere.
        loaded = load_backbone(replace(name, weights=None), shapes_only=True)
        splitter = Splitter(loaded, loaded.native_size if input_size is None else input_size)
        found = splitter.cuts
    result = {
        "backbone": name.architecture,
        "input_size": splitter.input_size,
        "cuts": [
            {
                "name": cut.name,
                "index": cut.index,
                "shape": list(cut.shape),
                "macs": cut.costs.macs,
                "weights_kb": cut.costs.weights_kb,
                "peak_ram_kb": cut.costs.peak_ram_kb,
                "payload_bytes": cut.costs.payload_bytes,
            }
            for cut in found
        ],
    }
    screen.show(result, _tables)


def _tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    rows = [
        (
            cut["index"],
            cut["name"],
            "x".join(map(str, cut["shape"])),
            f"{cut['macs'] / 1e6:.2f}",
            f"{cut['weights_kb']:.1f}",
            f"{cut['peak_ram_kb']:.1f}",
            f"{cut['payload_bytes']:,}",
        )
        for cut in result["cuts"]
    ]
    yield f"{result['backbone']} at {result['input_size']} pixels, all channels kept, float32:"
    columns = [">#", "cut", ">shape", ">MACs (M)", ">weights (KiB)", ">peak RAM (KiB)", ">payload (bytes)"]
    yield table(columns, rows)
