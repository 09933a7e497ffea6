"""Which parameters make a difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privynet.toolkit.importance import LEAST_CANDIDATES, importance
from privynet.toolkit.trial_rows import Row

from . import results


def rows(
    count: int, accuracy: Callable[[dict[str, Any]], float], r2: Callable[[dict[str, Any]], float]
) -> list[Row]:
    """Candidates drawn at random, with what their parameters make of them."""
    generator = np.random.default_rng(1)
    made = []
    for number in range(count):
        document = results.trial(0)
        document |= {
            "number": number,
            "cut": results.CUTS[0][generator.integers(9)][0],
            "channels": int(2 ** generator.integers(0, 5)),
            "policy": ("fisher", "random", "joint")[generator.integers(3)],
            "noise": float(generator.choice([0.0, 0.1, 0.2])),
        }
        document["estimates"] = {
            "accuracy": {"value": accuracy(document), "error": 0.0},
            "r2": {"value": r2(document), "error": 0.0},
        }
        made.append(Row(document, None, False))
    return made


def test_what_decides_is_found_for_each_measure() -> None:
    found = importance(
        results.result(),
        rows(80, lambda row: np.log2(row["channels"]), lambda row: float(row["policy"] == "joint")),
    )
    assert found is not None and found.candidates == 80
    shares = {one.name: one for one in found.parameters}
    # What is the same everywhere is not among them.
    assert shares.keys() == {"cut", "channels", "policy", "noise"}
    assert shares["channels"].accuracy is not None and shares["channels"].accuracy > 0.95
    assert shares["policy"].r2 is not None and shares["policy"].r2 > 0.95
    assert sum(one.accuracy or 0.0 for one in found.parameters) == pytest.approx(1.0)
    assert found.explained["accuracy"] > 0.9


def test_of_chance_nothing_is_claimed() -> None:
    generator = np.random.default_rng(0)
    found = importance(
        results.result(), rows(40, lambda row: generator.normal(), lambda row: float(row["noise"]))
    )
    assert found is not None and found.explained["accuracy"] <= 0
    assert {one.accuracy for one in found.parameters} == {None}


def test_too_few_candidates_or_all_alike_give_none() -> None:
    made = rows(LEAST_CANDIDATES, lambda row: row["noise"], lambda row: row["noise"])
    assert importance(results.result(), made) is not None
    assert importance(results.result(), made[:-1]) is None
    assert importance(results.result(), [made[0]] * 20) is None


def test_figures_that_are_all_equal_explain_nothing() -> None:
    found = importance(results.result(), rows(12, lambda row: 0.5, lambda row: row["noise"]))
    assert found is not None and found.explained["accuracy"] == 0
