"""``privynet export``: from a run to the artifact that ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import Screen, table
from ..options import (
    AdaptedWeights,
    AllowCode,
    Debug,
    Force,
    Json,
    OptionalData,
    ProjectionWeights,
    Seed,
    SpecWeights,
)
from ..tables import findings_table

if TYPE_CHECKING:
    import rich.table

_NAMED = 6


class SelfTest(StrEnum):
    """Whose images the self-test holds."""

    synthetic = "synthetic"
    data = "data"


def export(
    subject: Annotated[Path, typer.Argument(metavar="RUN|SPEC", help="A search's --out or an encoder.json.")],
    out: Annotated[
        Path,
        typer.Option(metavar="ARTIFACT", help="The new artifact: a folder, or one file if it ends in .zip."),
    ],
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="F", help="Also as ort, executorch, litert or coreml; repeatable."),
    ] = None,
    for_runtime: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="RUNTIME",
            help="Fail unless cpu, xnnpack, nnapi, coreml or qnn takes the network.",
        ),
    ] = None,
    with_weights: Annotated[
        bool, typer.Option("--with-weights", help="Add the encoder's weights as encoder.safetensors.")
    ] = False,
    selftest: Annotated[
        SelfTest, typer.Option(help="Whose images the self-test holds: nobody's, or those of --data.")
    ] = SelfTest.synthetic,
    data: OptionalData = None,
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

    A folder or a zip: the encoder as ONNX, its spec, a manifest with digests, a self-test, a page for the
    developer of the app. The password of an encrypted KEY is taken from $PRIVYNET_KEY_PASSWORD.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ...exporters import export

        result = export(
            subject,
            out=out,
            formats=formats or (),
            for_runtime=for_runtime,
            with_weights=with_weights,
            selftest=selftest.value,
            data=data,
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
    yield from _parity_lines(result["parity"])
    yield from runtimes_table(result["runtimes"])
    if result["signature"] is not None:
        yield _signature_line(**result["signature"])
    yield from findings_table(result["findings"])


def _signature_line(state: str, key: str | None) -> str:
    lines = {
        "unsigned": "unsigned: integrity, not origin",
        "not_checked": f"signed with {key}, not checked without --key: integrity, not origin",
        "valid": f"signed with {key}",
        "other_key": f"signed with {key}, another key than the one given",
        "wrong": "the signature is wrong",
    }
    return lines[state]


def runtimes_table(runtimes: Mapping[str, Mapping[str, Any]]) -> Iterator[rich.table.Table]:
    """What each runtime takes of the graph by its documentation; nothing where that is not known."""
    rows = []
    for name, found in runtimes.items():
        left = found["unsupported"]
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        pieces = "-" if found["partitions"] is None else str(found["partitions"])
        named = ", ".join(left[:_NAMED]) + more
        rows.append((name, "yes" if found["supported"] else "no", str(found["nodes"]), pieces, named or "-"))
    if rows:
        yield table(["runtime", "takes the network", ">nodes", ">pieces", "left to the CPU"], rows)


def _parity_lines(parity: Mapping[str, Any] | str) -> Iterator[str]:
    if not isinstance(parity, Mapping):
        yield "parity with torch: not run"
        return
    yield f"parity with torch, checked in ONNX Runtime: largest error {parity['max_abs_error']:.2g}"
    for name, found in parity.get("formats", {}).items():
        if found == "not_run":
            yield f"parity of {name} with ONNX: not run, its runtime does not run here"
        else:
            yield f"parity of {name} with ONNX: largest error {found['max_abs_error']:.2g}"
