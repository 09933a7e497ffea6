"""What an audit shows and what it does not, in plain language, from its document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
_UNIT = "\N{NO-BREAK SPACE}"
"""Between a figure and its unit: they stay on one line."""


@dataclass(frozen=True)
class Statement:
    """Paragraphs for a reader who was not there."""

    verdict: str
    """One or two sentences."""
    shown: tuple[str, ...]
    not_shown: tuple[str, ...]


def statement(document: Document) -> Statement:
    """The statement of an audit's document; every figure in it stands in the document."""
    return Statement(
        verdict=_verdict(document),
        shown=tuple(
            text
            for text in (
                _recovered(document),
                _pairs_only(document),
                _recognised(document),
                *_attributes(document),
                _dependence(document),
            )
            if text
        ),
        not_shown=(
            *_guarantee(document),
            _stronger(document),
            _pairs(document),
            "It was measured on held-out images of this data set. Images of another kind may leak more or "
            "less.",
            "The figures are averages and shares. A few images may be rebuilt far better: "
            "see the worst decile and the images rebuilt best.",
            _secrecy(document),
        ),
    )


def has_pairs_only(attack: Document) -> bool:
    """Whether an attack knows pairs and nothing else."""
    return list(attack["knows"]) == ["pairs"]


def knows_text(knows: Sequence[str]) -> str:
    """What an attacker knows, in plain words."""
    from ..leakage import KNOWLEDGE

    words = {str(name): told for name, told in KNOWLEDGE.items()}
    return "; ".join(words.get(name, name) for name in knows) or "the features alone"


def percent(value: float) -> str:
    """A share as per cent: ``43.2 %``."""
    return f"{100 * value:.1f}{_UNIT}%"


def interval(score: Document, spec: str = ".2f", *, unit: str = "") -> str:
    """A score with its interval: ``0.71 (95 % interval 0.70 to 0.72)``."""
    low, high = score["ci95"]
    return f"{score['value']:{spec}}{unit} (95{_UNIT}% interval {low:{spec}} to {high:{spec}})"


def still_rising(document: Document) -> list[str]:
    """The attacks whose r2 at the most pairs lies above the interval of the count before."""
    return [
        name
        for name, points in _by_attack(document).items()
        if len(points) > 1 and points[-1]["r2"]["value"] > points[-2]["r2"]["ci95"][1]
    ]


def worse_with_more(document: Document) -> list[str]:
    """The attacks whose r2 at the most pairs lies below the interval of some smaller count."""
    return [
        name
        for name, points in _by_attack(document).items()
        if any(points[-1]["r2"]["value"] < point["r2"]["ci95"][0] for point in points)
    ]


def _by_attack(document: Document) -> dict[str, list[Document]]:
    """The points of the curve over pairs, ascending, by attack."""
    found: dict[str, list[Document]] = {}
    for point in sorted(document.get("pairs_curve") or (), key=lambda point: point["pairs"]):
        found.setdefault(point["attack"], []).append(point)
    return found


def _verdict(document: Document) -> str:
    strongest = document["strongest"]["r2"]
    if document["verdict"] == "inconclusive":
        return (
            f"Inconclusive. Even the strongest attack, {strongest['attack']}, failed its positive control: "
            "given the raw images themselves, it could not rebuild them. So low scores here say nothing "
            "about the encoder."
        )
    if strongest["ci95"][1] <= 0:
        return (
            "Measured. No attack that was run rebuilt more of the images than their mean shows. "
            "A stronger attacker may."
        )
    return (
        f"Measured. The strongest of {_count(len(document['attacks']), 'attack')} that ran, "
        f"{strongest['attack']}, rebuilt {percent(strongest['value'])} of what tells the images from their "
        f"mean: R² is {interval(strongest, '.3f')}. A stronger attacker may rebuild more."
    )


def _recovered(document: Document) -> str:
    strongest = document["strongest"]
    psnr, r2 = strongest["psnr_db"], strongest["r2"]
    knows = next(a["knows"] for a in document["attacks"] if a["attack"] == r2["attack"])
    worst = ""
    if psnr.get("worst_decile") is not None:
        worst = f"; one image in ten reaches {psnr['worst_decile']:.1f}{_UNIT}dB or more"
    return (
        f"{r2['n']:,} images that no attacker had seen were rebuilt from what the encoder sends for them. "
        f"The strongest attack, {r2['attack']}, knew: {knows_text(knows)}. The best mean PSNR is "
        f"{interval(psnr, '.1f', unit=f'{_UNIT}dB')}{worst}. {_floor(document)}"
    )


def _floor(document: Document) -> str:
    r2, label = document["strongest"]["r2"], document["label_only"]["r2"]
    tells = f"The mean image of the right class, which needs no features, has R² {label['value']:.3f}"
    if r2["ci95"][0] > label["ci95"][1]:
        return f"{tells}: the features give away more than the answer does."
    if r2["ci95"][1] < label["ci95"][0]:
        return f"{tells}: more than any attack rebuilt."
    return f"{tells}: the intervals overlap, so the two cannot be told apart here."


def _pairs_only(document: Document) -> str:
    best, all_ = document.get("strongest_pairs_only"), document["strongest"]
    if not best or best["r2"]["attack"] == all_["r2"]["attack"]:
        return ""
    return (
        f"An attacker who holds pairs of images and features, but not the encoder, reached R² "
        f"{interval(best['r2'], '.3f')} with {best['r2']['attack']}."
    )


def _recognised(document: Document) -> str:
    strongest, judge = document["strongest"], document.get("recogniser")
    pixels = strongest.get("reidentification")
    if not pixels:
        return ""
    count = pixels["n"]
    label = document["label_only"].get("reidentification")
    known_class = f"; from the class alone: {_chance(label['value'])}" if label else ""
    text = (
        f"Can a rebuilt image be recognised? Among the {count:,} originals the nearest one in pixels is the "
        f"right one for {_share(pixels)} of the images (chance: {_chance(1 / count)}{known_class})"
    )
    features = strongest.get("reidentification_features")
    if features:
        text += f", in the features of an independent network for {_share(features)}"
    seen = strongest.get("classified")
    if seen and judge:
        text += (
            f". That network sees the right class in {_share(seen)} of the rebuilt images and in "
            f"{percent(judge['accuracy']['value'])} of the originals (chance: {_chance(judge['chance'])})"
        )
    return text + "."


def _attributes(document: Document) -> Iterable[str]:
    for entry in document.get("attributes") or ():
        if "accuracy" not in entry:
            continue
        raw = entry.get("raw_images")
        compared = f"; from the raw images {percent(raw['value'])}" if raw else ""
        yield (
            f"The private attribute {entry['attribute']} is predicted from the features with an accuracy of "
            f"{_share(entry['accuracy'])} (the commonest answer: {percent(entry['chance'])}{compared})."
        )


def _dependence(document: Document) -> str:
    dcor = document.get("dcor")
    if not dcor:
        return ""
    return (
        f"The bias-corrected squared distance correlation of images and features is {dcor['corrected']:.3f} "
        f"(n = {dcor['n']:,}; 0 would mean independent). It ranks encoders; no value of it is a promise."
    )


def _guarantee(document: Document) -> Iterable[str]:
    bound, encoder = document.get("bound"), document.get("encoder") or {}
    noise = bound["noise_std"] if bound else encoder.get("noise_std", 0)
    if not noise:
        yield (
            "There is no guarantee. The encoder adds no noise; what it sends follows from the image alone, "
            "and nothing bounds what a better attacker could rebuild. Coarser payloads do not change that."
        )
        return
    if not bound:
        yield (
            f"The encoder adds Gaussian noise (standard deviation {noise:g}), but no bound was computed "
            "here, so there is no guarantee."
        )
        return
    yield f"The encoder adds Gaussian noise (standard deviation {noise:g})."
    if bound["unbiased_mse"] is not None:
        yield (
            f"For unbiased attackers, who assume nothing about images, the Fisher information (dFIL "
            f"{bound['dfil']:.3g}) keeps the mean squared error at {bound['unbiased_mse']:.3g} or more "
            f"({bound['unbiased_psnr_db']:.1f}{_UNIT}dB or less). Trained attackers are biased towards "
            "likely images, so they can pass this bound."
        )
    yield (
        "The van Trees bound holds for every attacker, if images are drawn from its prior "
        f"({bound['prior']}): a mean squared error of {bound['van_trees_mse']:.3g} or more "
        f"({bound['van_trees_psnr_db']:.1f}{_UNIT}dB or less). Real images are not quite that, and an "
        "attacker who knows more about them can do better. The bound is estimated from "
        f"{bound['n']} images{_optimism(bound)}. Both bounds are means over images and for one "
        "capture: k captures of one scene carry k times the information."
    )


def _optimism(bound: Mapping[str, Any]) -> str:
    by = bound.get("optimistic_by_db")
    return "" if by is None else f", which makes it optimistic, by about {by:.1f}{_UNIT}dB"


def _stronger(document: Document) -> str:
    left_out = [entry["attack"] for entry in document.get("not_run") or ()]
    also = f" Not run here: {_listed(left_out)}." if left_out else ""
    return (
        f"Another attacker may be stronger than the ones that ran, with "
        f"{document['budget_s']:g} seconds each: one with more time, other knowledge of the images, or a "
        f"method not yet known. A low score is the absence of a success, not a proof.{also}"
    )


def _pairs(document: Document) -> str:
    text = (
        f"The attackers had at most {document['n']['train']:,} pairs of image and features. An attacker with "
        "more may do better"
    )
    rising, falling = still_rising(document), worse_with_more(document)
    text += f": {_listed(rising)} still gained with the number of pairs." if rising else "."
    if falling:
        text += (
            f" With fewer pairs {_listed(falling)} did better than with all, so the seconds were too few to "
            "use them, and the figures above are too low."
        )
    return text


def _secrecy(document: Document) -> str:
    if document["encoder"].get("projection"):
        return "That the projection is secret protects little: whoever holds the app's file has it."
    text = "That the kept channels are secret protects little: whoever holds the app's file has them."
    for attack in document["attacks"]:
        found = attack["fit"].get("found")
        if attack["attack"] == "unknown-channels" and isinstance(found, float):
            return (
                f"{text} From the features alone, with the public weights of the backbone, unknown-channels "
                f"found {percent(found)} of them."
            )
    return text


def _share(score: Document) -> str:
    low, high = score["ci95"]
    return f"{percent(score['value'])} ({100 * low:.1f} to {100 * high:.1f}{_UNIT}%)"


def _chance(value: float) -> str:
    return f"{100 * value:.2g}{_UNIT}%"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
