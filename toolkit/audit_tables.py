"""What ``privynet audit`` prints: the strongest attacks first, then every attack, then what else is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .console import table
from .statement import has_pairs_only, knows_text, statement
from .tables import number_text, score_text

if TYPE_CHECKING:
    import rich.table

_MEASURES = {
    "psnr_db": ("PSNR (dB)", ".1f"),
    "ssim": ("SSIM", ".3f"),
    "r2": ("R2", ".3f"),
    "reidentification": ("re-identified, pixels", ".1%"),
    "reidentification_features": ("re-identified, features", ".1%"),
    "classified": ("right class seen", ".1%"),
}

Tables = Iterator["rich.table.Table | str"]


def audit_tables(result: Mapping[str, Any]) -> Tables:
    """Tables and lines of an audit's document."""
    told = statement(result)
    yield told.verdict
    yield from _strongest(result)
    yield from _attacks(result)
    yield from _curve(result)
    yield from _attributes(result)
    yield from _bounds(result)
    for entry in result["not_run"]:
        yield f"not run: {entry['attack']} (would know {knows_text(entry['knows'])}): {entry['reason']}"
    for warning in result["warnings"]:
        yield f"warning: {warning}"
    yield "a measurement, not a guarantee: another attacker may recover more"
    yield f"report: {result['report']}"


def _strongest(result: Mapping[str, Any]) -> Tables:
    pairs_only = result["strongest_pairs_only"]
    rows = []
    for key, (title, form) in _MEASURES.items():
        score = result["strongest"].get(key)
        if score is None:
            continue
        decile = score.get("worst_decile")
        rows.append(
            (
                title,
                score_text(score, form),
                "-" if decile is None else f"{decile:{form}}",
                score["attack"],
                f"{pairs_only[key]['value']:{form}} by {pairs_only[key]['attack']}" if pairs_only else "-",
            )
        )
    yield table(["strongest attack", ">recovered", ">1 image in 10", "by", "with pairs only"], rows)


def _attacks(result: Mapping[str, Any]) -> Tables:
    measures = {key: told for key, told in _MEASURES.items() if key in result["strongest"]}
    columns = [f">{title}" for title, _ in measures.values()]
    attacks = result["attacks"]
    for title, part in (
        ("attack that has pairs only", [a for a in attacks if has_pairs_only(a)]),
        ("attack that knows more, or other things", [a for a in attacks if not has_pairs_only(a)]),
    ):
        if part:
            yield table(
                [title, *columns, ">pairs", ">seconds", "stopped", "control"],
                [
                    (attack["attack"], *_values(attack, measures), *_effort(attack["fit"]), _control(attack))
                    for attack in part
                ],
            )
    floors = [
        ("label only: the mean image of the class", *_values(result["label_only"], measures)),
        ("blind guess: the mean image", *_values(result["blind"], measures)),
    ]
    judge = result.get("recogniser")
    if judge:
        seen = {"classified": judge["accuracy"]}
        floors.append(("the judge on the originals", *_values(seen, measures)))
    yield table(["without the features", *columns], floors)
    known = [
        (attack["attack"], knows_text(attack["knows"])) for attack in attacks if not has_pairs_only(attack)
    ]
    if known:
        yield table(["attack", "what it knows"], known)


def _values(scores: Mapping[str, Any], measures: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    for key, (_, form) in measures.items():
        yield f"{scores[key]['value']:{form}}" if key in scores else "-"


def _effort(fit: Mapping[str, Any]) -> tuple[str, str, str]:
    pairs, seconds = fit.get("pairs"), fit.get("seconds")
    return (
        "-" if pairs is None else f"{pairs:,}",
        "-" if seconds is None else f"{seconds:.0f}",
        str(fit.get("stopped", "-")),
    )


def _control(attack: Mapping[str, Any]) -> str:
    control = attack.get("control")
    if not control:
        return "not run"
    return f"{'passed' if control['passed'] else 'FAILED'} ({control['psnr_db']['value']:.1f} dB)"


def _curve(result: Mapping[str, Any]) -> Tables:
    rows: Sequence[Mapping[str, Any]] = result["pairs_curve"]
    if len({row["pairs"] for row in rows}) > 1:
        yield table(
            ["with fewer pairs", ">pairs", ">PSNR (dB)", ">R2"],
            [
                (
                    row["attack"],
                    f"{row['pairs']:,}",
                    score_text(row["psnr_db"], ".1f"),
                    score_text(row["r2"], ".3f"),
                )
                for row in rows
            ],
        )


def _attributes(result: Mapping[str, Any]) -> Tables:
    if result["attributes"]:
        yield table(
            ["private attribute", ">from features", ">commonest value", ">from raw images"],
            [
                (
                    entry["attribute"],
                    score_text(entry["accuracy"]),
                    f"{entry['chance']:.1%}",
                    score_text(entry["raw_images"]),
                )
                for entry in result["attributes"]
            ],
        )


def _bounds(result: Mapping[str, Any]) -> Tables:
    dcor, bound = result["dcor"], result["bound"]
    if dcor:
        yield (
            f"distance correlation of images and features: {dcor['corrected']:.3f} bias-corrected and "
            f"squared, {dcor['biased']:.3f} biased (n={dcor['n']:,})"
        )
    if bound and bound["unbiased_mse"] is not None:
        yield (
            f"bound for unbiased attackers: MSE at least {number_text(bound['unbiased_mse'])} "
            f"(PSNR at most {bound['unbiased_psnr_db']:.1f} dB), dFIL {number_text(bound['dfil'])}"
        )
    if bound:
        yield (
            f"bound for all attackers, if images are as its prior says ({bound['prior']}): MSE at least "
            f"{number_text(bound['van_trees_mse'])} (PSNR at most {bound['van_trees_psnr_db']:.1f} dB)"
        )
    else:
        yield f"bound: none, {'none was computed' if result['encoder']['noise_std'] else 'no noise is added'}"
