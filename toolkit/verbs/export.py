"""``privynet export``: from a run to the artifact that ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import AdaptedWeights, AllowCode, Debug, Force, Json, ProjectionWeights, Seed, SpecWeights
from ..tables import findings_table

if TYPE_CHECKING:
    import rich.table


def export(
    subject: Annotated[Path, typer.Argument(metavar="RUN|SPEC", help="A search's --out or an encoder.json.")],
    out: Annotated[
        Path,
        typer.Option(metavar="ARTIFACT", help="The new artifact: a folder, or one file if it ends in .zip."),
    ],
    weights: SpecWeights = None,
    adapted_weights: AdaptedWeights = None,
    projection_weights: ProjectionWeights = None,
    allow_code: AllowCode = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign it with this Ed25519 private key (PEM or OpenSSH)."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Write the artifact that ships.

    A folder or a zip: the encoder as ONNX, its spec, a manifest with digests, a self-test. The password of an
    encrypted KEY is taken from $PRIVYNET_KEY_PASSWORD.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...exporters import export

        result = export(
            subject,
            out=out,
            weights=weights,
            adapted_weights=adapted_weights,
            projection_weights=projection_weights,
            allowed_code=allow_code or (),
            sign=sign,
            force=force,
            seed=seed,
            progress=progress,
        )
    screen.show(result, tables)


def tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """What export and verify print."""
    rows = [(name, f"{file['bytes']:,}", file["sha256"]) for name, file in result["files"].items()]
    yield f"artifact {result['artifact']}:"
    yield table(["file", ">bytes", "SHA-256"], rows)
    parity = result["parity"]
    if isinstance(parity, Mapping):
        yield f"parity with torch, checked in ONNX Runtime: largest error {parity['max_abs_error']:.2g}"
    else:
        yield "parity with torch: not run"
    if result["signature"] is not None:
        yield _signature_line(**result["signature"])
    yield from findings_table(result["findings"])


def _signature_line(state: str, key: str | None) -> str:
    lines = {
        "unsigned": "unsigned: integrity, not origin",
        "not_checked": f"signed with {key}, which nobody was asked about: integrity, not origin (--key FILE)",
        "valid": f"signed with {key}",
        "other_key": f"signed with {key}, another key than the one given",
        "wrong": "the signature is wrong",
    }
    return lines[state]
