"""Options that several verbs share: one name, one meaning, one help text each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


@dataclass
class Settings:
    """What the outermost frame must know about the command that runs."""

    debug: bool = False


class Accelerator(StrEnum):
    """Where torch computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


def _set_debug(context: typer.Context, value: bool) -> None:
    if value:
        context.find_root().obj.debug = True


Debug = Annotated[
    bool,
    typer.Option("--debug", help="On an error, show where it came from.", callback=_set_debug, is_eager=True),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, metavar="N", help="Seed of all but secrets.")]
Where = Annotated[Accelerator, typer.Option(help="Where torch computes.", case_sensitive=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace --out if privynet wrote it.")]
_DATA = typer.Option(
    help="digits, cifar10, cifar100, fashion-mnist, folder:PATH or npz:PATH.", metavar="SOURCE"
)
Data = Annotated[str, _DATA]
OptionalData = Annotated[str | None, _DATA]
ImageSize = Annotated[
    int,
    typer.Option(min=16, max=1024, metavar="N", help="Pixels at which a folder or npz is attacked."),
]
Threads = Annotated[int, typer.Option(min=1, metavar="N", help="CPU threads.")]
Images = Annotated[bool, typer.Option("--images/--no-images", help="Keep originals beside reconstructions.")]
Weights = Annotated[
    str | None,
    typer.Option(metavar="FILE|random", help="Short form of weights= of the --backbone."),
]
BackboneArguments = Annotated[
    list[str] | None,
    typer.Option("--backbone-arg", metavar="KEY=VALUE", help="Another argument of the --backbone."),
]
Mean = Annotated[str | None, typer.Option(metavar="M[/M/M]", help="Short form of mean= of the --backbone.")]
Std = Annotated[str | None, typer.Option(metavar="S[/S/S]", help="Short form of std= of the --backbone.")]
ArtifactPath = Annotated[
    Path, typer.Argument(metavar="ARTIFACT", help="The folder or zip that export wrote.")
]
SpecWeights = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The backbone's weights, if they have moved."),
]
AdaptedWeights = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The adapted encoder's weights, if they have moved."),
]
ProjectionWeights = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The projection's matrix, if it has moved."),
]
AllowCode = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE:FACTORY", help="Import this code of yours, which the spec names."),
]
Pairs = Annotated[int, typer.Option(metavar="N", help="At most so many images to attack with.")]
On = Annotated[
    str,
    typer.Option(metavar="TARGET", help="Where to measure: local, ssh://USER@HOST[:PORT] or adb://SERIAL."),
]
AcceptNewHostKey = Annotated[
    bool, typer.Option("--accept-new-host-key", help="Learn the key of an SSH host that is not known.")
]
TargetPython = Annotated[
    str | None,
    typer.Option(
        "--python", metavar="PATH", help="The Python on the target (default: the first that is found)."
    ),
]
Budget = Annotated[
    float, typer.Option(min=0.1, metavar="SECONDS", help="At most so long for each attack's training.")
]
