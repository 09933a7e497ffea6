"""``privynet export``: from a run to the artifact that ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
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


class ExportPrecision(StrEnum):
    """What the exported encoder computes in."""

    fp32 = "fp32"
    int8 = "int8"


def export(
    subject: Annotated[Path, typer.Argument(metavar="RUN|SPEC", help="A search's --out or an encoder.json.")],
    out: Annotated[
        Path,
        typer.Option(metavar="ARTIFACT", help="The new artifact: a folder, or one file if it ends in .zip."),
    ],
    precision: Annotated[
        ExportPrecision | None,
        typer.Option(help="fp32, or 8-bit integers (default: as the spec says).", case_sensitive=False),
    ] = None,
    calibration: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Images that int8 is calibrated on (default: 256)."),
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(metavar="HEAD", help="A trained head: tell its accuracy in float32 and int8."),
    ] = None,
    max_accuracy_loss: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="X", help="Leave layers in float32 until --head loses no more than this."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Run the self-test there and time int8 beside fp32: local, ssh://USER@HOST[:PORT] or"
            " adb://SERIAL.",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", metavar="F", help="Also as ort, executorch, litert or coreml; repeatable."),
    ] = None,
    for_runtimes: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="RUNTIME",
            help="Fail unless cpu, xnnpack, nnapi, coreml or qnn takes the network; one of them.",
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
    developer of the app. The password of an encrypted KEY is taken from $PRIVYNET_KEY_PASSWORD. int8 is
    calibrated on --data (default: the run's own); a spec in int8 keeps its grids without --precision int8.
    """
    screen = Screen(as_json=as_json, seed=seed)
    with screen.working() as progress:
        from ..exporting import export_subject

        result = export_subject(
            subject,
            out=out,
            precision=None if precision is None else precision.value,
            calibration=calibration,
            head=head,
            max_accuracy_loss=max_accuracy_loss,
            on=on,
            formats=formats or (),
            for_runtime=_only(for_runtimes or []),
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


def _only(runtimes: Sequence[str]) -> str | None:
    if len(runtimes) > 1:
        raise InputError(
            f"--for takes one runtime, not {', '.join(runtimes)}", hint="export once for each of them"
        )
    return next(iter(runtimes), None)


def tables(result: Mapping[str, Any]) -> Iterator[rich.table.Table | str]:
    """What export and verify print."""
    rows = [(name, f"{file['bytes']:,}", file["sha256"]) for name, file in result["files"].items()]
    yield f"artifact {result['artifact']}" + (f", in {result['precision']}:" if result["precision"] else ":")
    yield table(["file", ">bytes", "SHA-256"], rows)
    yield from _parity_lines(result["parity"], result["precision"])
    if not any(finding["severity"] == "error" for finding in result["findings"]):
        yield from runtimes_table(result["runtimes"])
    if result.get("int8"):
        yield from _int8_lines(result["int8"])
    yield from _measured_lines(result["measured"])
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


def _int8_lines(int8: Mapping[str, Any]) -> Iterator[str]:
    ratios, score = int8["sqnr_db"], int8["score"]
    if ratios:
        name, least = min(ratios.items(), key=lambda one: one[1])
        yield (
            f"int8, calibrated on {int8['images']} images: signal to noise {least:.1f} dB in the worst of"
            f" {len(ratios)} tensors, {name}; left in float32: {', '.join(int8['in_float']) or 'nothing'}"
        )
    else:
        yield "int8, on the grids of the spec"
    if score is not None:
        yield f"accuracy of the head: {score['float32']:.1%} in float32, {score['int8']:.1%} in int8"


def _measured_lines(measured: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in measured:
        if "ratio" not in one:
            error = one["max_abs_error"]
            told = "nothing that can be compared" if error is None else f"largest error {error:.2g}"
            yield f"self-test on {one['on']}: {told}"
            continue
        low, high = one["ratio"]["ci95"]
        yield (
            f"int8 takes {one['ratio']['value']:.2f} ({low:.2f}..{high:.2f}) times as long as float32 on"
            f" {one['on']}: {one['int8_ms']:.3g} ms against {one['fp32_ms']:.3g} ms"
        )


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


def _parity_lines(parity: Mapping[str, Any] | str, precision: str | None) -> Iterator[str]:
    if not isinstance(parity, Mapping):
        yield "parity with torch: not run"
        return
    compared = "parity with torch, checked in ONNX Runtime"
    if precision == "int8":
        exported = "same_bytes" not in parity
        compared = (
            "parity with torch of the float32 graph that the integers are made of"
            if exported
            else "parity with the integers that the spec gives"
        )
    yield f"{compared}: largest error {parity['max_abs_error']:.2g}"
    if parity.get("same_bytes"):
        yield "exported again: the same graph, byte for byte"
    for name, found in parity.get("formats", {}).items():
        if found == "not_run":
            yield f"parity of {name} with ONNX: not run, its runtime does not run here"
        else:
            yield f"parity of {name} with ONNX: largest error {found['max_abs_error']:.2g}"
