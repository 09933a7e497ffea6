"""The report of an audit: one self-contained page, made from its document and images alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts import AuditFolder, read_document, replace_file
from .audit_charts import Curves, Measured, Panel, Reference, curves, panel
from .pages import data_uri, template
from .statement import has_pairs_only, knows_text, statement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHOWN = 8
"""Images in a row."""
_EXTRAS = {"found": "share of the kept channels found"}
_GROUPS = ("Rebuilt best: the worst for privacy", "Around the median", "Rebuilt worst")


@dataclass(frozen=True)
class Measure:
    """How a measure is called and written."""

    key: str
    title: str
    form: str
    scale: float = 1.0
    span: tuple[float, float] | None = None
    """What a plot's axis shows at least."""

    def text(self, value: float) -> str:
        """A value, without its unit."""
        return f"{self.scale * value:{self.form}}"


MEASURES = (
    Measure("psnr_db", "PSNR (dB)", ".1f"),
    Measure("ssim", "SSIM", ".3f", span=(0, 1)),
    Measure("r2", "R²", ".3f", span=(0, 1)),
    Measure("reidentification", "Re-identified in pixels (%)", ".1f", 100, (0, 1)),
    Measure("reidentification_features", "Re-identified in features (%)", ".1f", 100, (0, 1)),
    Measure("classified", "Right class seen (%)", ".1f", 100, (0, 1)),
)
"""In the order in which tables and plots show them."""


@dataclass(frozen=True)
class Shown:
    """An image as a data: URI; ``psnr_db`` is ``None`` for an original."""

    source: str
    psnr_db: float | None = None


@dataclass(frozen=True)
class Group:
    """Originals above what one attack made of them."""

    title: str
    pairs: list[tuple[Shown, Shown]]


@dataclass(frozen=True)
class Strip:
    """What one attack made of the same few images."""

    name: str
    images: list[Shown]


def write_audit_report(folder: AuditFolder) -> Path:
    """Write ``AUDIT/report.html`` (mode 0600: it may show raw images) from what lies in the folder.

    Raises ``InputError`` when the audit has no result.
    """
    document = read_document(folder.result, "audit")
    originals = _array(folder.originals, "images") if folder.originals.exists() else None
    rebuilt, psnr_db = {}, {}
    if originals is not None:
        for attack in document["attacks"]:
            _, arrays = folder.attack(attack["attack"])
            rebuilt[attack["attack"]] = _array(arrays, "reconstructions")
            psnr_db[attack["attack"]] = _array(arrays, "psnr_db")
    page = render_audit(document, originals=originals, reconstructions=rebuilt, psnr_db=psnr_db)
    with replace_file(folder.report, private=True) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return folder.report


def render_audit(
    document: Mapping[str, Any],
    *,
    originals: NDArray[np.uint8] | None = None,
    reconstructions: Mapping[str, NDArray[np.uint8]] | None = None,
    psnr_db: Mapping[str, NDArray[np.float64]] | None = None,
) -> str:
    """The page of an audit's document.

    ``originals``: uint8 (n, R, R, 3), ``None`` to show no image at all; ``reconstructions`` and ``psnr_db``
    (n,) by attack.
    """
    best = document["strongest"]["r2"]["attack"]
    shown = originals is not None and reconstructions is not None and best in reconstructions
    attacks = document["attacks"]
    return template("audit.html").render(
        audit=document,
        best=best,
        statement=statement(document),
        measures=[measure for measure in MEASURES if measure.key in document["strongest"]],
        parts=[
            (title, part)
            for title, part in (
                ("Attackers who hold pairs, not the encoder", [a for a in attacks if has_pairs_only(a)]),
                ("Attackers who know more, or other things", [a for a in attacks if not has_pairs_only(a)]),
            )
            if part
        ],
        floors=[
            ("Label-only floor: the mean image of the class", document["label_only"]),
            ("Blind guess: the mean image", document["blind"]),
        ],
        panels=list(_panels(document)),
        curves=list(_curves(document)),
        groups=_groups(originals, reconstructions, psnr_db, best) if shown else [],
        strips=_strips(originals, reconstructions, psnr_db, best, attacks) if shown else [],
        extras={attack["attack"]: _extras(attack["fit"]) for attack in attacks},
        encoder=_encoder(document["encoder"]),
        knows_text=knows_text,
    )


def _encoder(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """What was attacked, ``None`` for what is not known; of the channels only how many."""
    names = ("backbone", "cut", "payload_bits", "payload_bytes", "adapted", "channels", "projection")
    channels = encoder.get("channels")
    return {
        **dict.fromkeys(names),
        **encoder,
        "channels": len(channels) if isinstance(channels, Sequence) else channels,
    }


def _extras(fit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an attack says of itself beside the usual: single figures and words, no lists (of channels)."""
    usual = {"seconds", "pairs", "stopped"}
    return [
        (
            _EXTRAS.get(name, name.replace("_", " ")),
            f"{value:.4g}" if isinstance(value, float) else str(value),
        )
        for name, value in fit.items()
        if name not in usual and isinstance(value, bool | int | float | str)
    ]


def _panels(document: Mapping[str, Any]) -> Iterator[Panel]:
    ordered = sorted(document["attacks"], key=lambda attack: not has_pairs_only(attack))
    for measure in MEASURES:
        strongest = document["strongest"].get(measure.key)
        if strongest is None:
            continue
        yield panel(
            measure.title,
            [
                _measured(attack, measure, strongest=attack["attack"] == strongest["attack"])
                for attack in ordered
                if measure.key in attack
            ],
            list(_references(document, measure)),
            form=".0f" if measure.scale != 1 else "g",
            span=None if measure.span is None else _scaled(measure, measure.span),
        )


def _measured(attack: Mapping[str, Any], measure: Measure, *, strongest: bool = False) -> Measured:
    score = attack[measure.key]
    low, high = score["ci95"]
    return Measured(
        name=attack["attack"],
        value=measure.scale * score["value"],
        low=measure.scale * low,
        high=measure.scale * high,
        pairs_only=has_pairs_only(attack) if "knows" in attack else True,
        strongest=strongest,
        title=f"{attack['attack']}: {measure.title} {measure.text(score['value'])}, "
        f"95 % interval {measure.text(low)} to {measure.text(high)}",
    )


def _references(document: Mapping[str, Any], measure: Measure) -> Iterator[tuple[Reference, float, str]]:
    kinds: tuple[tuple[Reference, str, str], ...] = (
        ("blind", "blind", "blind guess"),
        ("label", "label_only", "label-only floor"),
    )
    if all(measure.key in document[key] for _, key, _ in kinds):
        for kind, key, name in kinds:
            value = document[key][measure.key]["value"]
            yield kind, measure.scale * value, f"{name}: {measure.text(value)}"
        return
    judge = document.get("recogniser")
    chance = 1 / document["strongest"][measure.key]["n"]
    if measure.key == "classified":
        if judge is None:
            return
        chance, on_originals = judge["chance"], judge["accuracy"]["value"]
        yield "originals", measure.scale * on_originals, f"on the originals: {measure.text(on_originals)}"
    yield "chance", measure.scale * chance, f"chance: {measure.scale * chance:.2g}"


def _scaled(measure: Measure, span: tuple[float, float]) -> tuple[float, float]:
    return measure.scale * span[0], measure.scale * span[1]


def _curves(document: Mapping[str, Any]) -> Iterator[Curves]:
    rows = document.get("pairs_curve") or []
    if len({row["pairs"] for row in rows}) < 2:
        return
    names = dict.fromkeys(row["attack"] for row in rows)
    for measure in (measure for measure in MEASURES if measure.key in ("psnr_db", "r2")):
        series = [
            (
                name,
                [
                    (row["pairs"], _measured(row, measure))
                    for row in sorted(rows, key=lambda row: row["pairs"])
                    if row["attack"] == name
                ],
            )
            for name in names
        ]
        yield curves(measure.title, series, form="g")


def _groups(originals: Any, reconstructions: Any, psnr_db: Any, best: str) -> list[Group]:
    """The images rebuilt best (the worst ones for privacy), those in the middle, and those rebuilt worst."""
    order = (-psnr_db[best]).argsort(kind="stable")
    count = min(_SHOWN, max(1, len(order) // len(_GROUPS)))
    starts = (0, (len(order) - count) // 2, len(order) - count)
    return [
        Group(
            title,
            [
                (
                    Shown(data_uri(originals[number])),
                    Shown(data_uri(reconstructions[best][number]), float(psnr_db[best][number])),
                )
                for number in order[start : start + count]
            ],
        )
        for title, start in zip(_GROUPS, starts, strict=True)
    ]


def _strips(
    originals: Any,
    reconstructions: Any,
    psnr_db: Any,
    best: str,
    attacks: Iterable[Mapping[str, Any]],
) -> list[Strip]:
    """The images around the median, and what every attack made of them."""
    order = (-psnr_db[best]).argsort(kind="stable")
    count = min(_SHOWN, len(order))
    middle = order[(len(order) - count) // 2 :][:count]
    names = [attack["attack"] for attack in attacks if attack["attack"] in reconstructions]
    return [
        Strip("original", [Shown(data_uri(originals[number])) for number in middle]),
        *(
            Strip(
                name,
                [
                    Shown(data_uri(reconstructions[name][number]), float(psnr_db[name][number]))
                    for number in middle
                ],
            )
            for name in names
        ),
    ]


def _array(path: Path, name: str) -> NDArray[Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        array: NDArray[Any] = archive[name]
        return array
