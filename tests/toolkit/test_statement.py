"""The plain-language paragraph: it says what the figures say, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from privynet.toolkit.statement import knows_text, statement

from . import audits
from .results import score


def shown(document: dict[str, Any]) -> str:
    return " ".join(" ".join(statement(document).shown).split())


def not_shown(document: dict[str, Any]) -> str:
    return " ".join(" ".join(statement(document).not_shown).split())


def verdict(document: dict[str, Any]) -> str:
    return " ".join(statement(document).verdict.split())


def test_the_verdict_names_the_strongest_attack_with_its_interval_and_never_says_safe() -> None:
    document = audits.document()
    assert "likelihood-prior, rebuilt 84.2 %" in verdict(document)
    assert "0.842 (95 % interval 0.833 to 0.851)" in verdict(document)
    for variant in (document, audits.document(inconclusive=True), audits.document(noise=True)):
        text = f"{verdict(variant)} {shown(variant)} {not_shown(variant)}".lower()
        assert " safe" not in text and " private " not in text.replace("private attribute", "")


def test_an_attacker_that_fails_its_control_makes_it_inconclusive() -> None:
    text = verdict(audits.document(inconclusive=True))
    assert text.startswith("Inconclusive.") and "likelihood-prior, failed its positive control" in text


def test_no_better_than_the_mean_image_is_said_as_such() -> None:
    document = audits.document()
    document["strongest"]["r2"] |= score(-0.05, 0.01, audits.N)
    assert "No attack that was run rebuilt more of the images than their mean shows" in verdict(document)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (0.09, "the features give away more than the answer does"),
        (0.842, "cannot be told apart here"),
        (0.95, "more than any attack rebuilt"),
    ],
)
def test_the_label_only_floor_is_compared_with_the_intervals(label: float, words: str) -> None:
    document = audits.document()
    document["label_only"]["r2"] = score(label, 0.005, audits.N)
    assert words in shown(document)


def test_the_strongest_attack_is_told_with_what_it_knew_and_apart_from_pairs_only() -> None:
    text = shown(audits.document())
    assert "knew: the encoder itself: its weights and kept channels; images with what" in text
    assert "not the encoder, reached R² 0.765 (95 % interval 0.756 to 0.774) with decoder-residual" in text
    assert "one image in ten reaches 25.7 dB or more" in text


def test_when_pairs_were_enough_it_is_said_once() -> None:
    document = audits.document()
    document["strongest"] = document["strongest_pairs_only"]
    assert "not the encoder, reached" not in shown(document)
    document["strongest_pairs_only"] = None
    assert "not the encoder, reached" not in shown(document)


def test_recognition_stands_with_n_and_chance() -> None:
    text = shown(audits.document())
    assert "Among the 1,000 originals" in text and "94.4 % (92.4 to 96.4 %)" in text
    assert "(chance: 0.1 %; from the class alone: 1 %)" in text
    assert "in 71.0 % of the originals (chance: 10 %)" in text


def test_attributes_stand_with_chance_and_the_raw_images() -> None:
    assert "gender is predicted from the features with an accuracy of 81.0 %" in shown(audits.document())
    assert "the commonest answer: 53.0 %; from the raw images 93.0 %" in shown(audits.document())


def test_without_noise_there_is_no_guarantee() -> None:
    assert "There is no guarantee. The encoder adds no noise" in not_shown(audits.document())


def test_with_noise_each_bound_names_its_assumption() -> None:
    text = not_shown(audits.document(noise=True))
    assert "unbiased attackers" in text and "so they can pass this bound" in text
    assert "images are drawn from its prior (Gaussian with the covariance of 5,000 training images)" in text
    document = audits.document(noise=True)
    document["bound"] = None
    assert "no bound was computed" in not_shown(document)


def test_attacks_still_gaining_with_pairs_are_named() -> None:
    document = audits.document()
    assert "at most 5,000 pairs" in not_shown(document)
    assert "decoder-residual still gained with the number of pairs" in not_shown(document)
    document["pairs_curve"] = []
    assert "still gained" not in not_shown(document)


def test_an_attack_that_more_pairs_made_worse_had_too_little_time() -> None:
    document = audits.document()
    assert "too few to use them" not in not_shown(document)
    for point in document["pairs_curve"]:
        point["r2"] = score(0.9 - point["pairs"] / 10_000, 0.01, audits.N)
    text = not_shown(document)
    assert "With fewer pairs ridge and decoder-residual did better than with all" in text
    assert "still gained" not in text


def test_secrecy_of_the_channels_is_told_with_what_the_attack_on_it_found() -> None:
    document = audits.document()
    assert "unknown-channels found 93.8 % of them" in not_shown(document)
    document["attacks"] = document["attacks"][:-1]
    assert "protects little" in not_shown(document) and "found" not in not_shown(document).split("secret")[1]


def test_what_is_known_is_put_in_plain_words() -> None:
    assert knows_text(["pairs"]) == "images with what the encoder sent for them"
    assert knows_text([]) == "the features alone"
