"""Some hundred changed artifacts, of thousands that the benchmark makes: none is taken for what it is not."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("hostile_artifacts", "artifact_mutations", "graph_mutations", "zip_mutations")


@pytest.fixture(scope="module")
def benchmark() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module(MODULES[0])
        for name in MODULES:
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def outcomes(benchmark: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """400 that are as they were sealed but for a change, and 36 that are resealed."""
    bases = benchmark.make_bases(tmp_path_factory.mktemp("bases"))
    kinds = benchmark.MUTATIONS
    sealed = [number for number in range(10_000) if not kinds[number % len(kinds)].resealed][:400]
    resealed = [number for number in range(10_000) if kinds[number % len(kinds)].resealed][:36]
    places = tmp_path_factory.mktemp("places")
    found = []
    for number in (*sealed, *resealed):
        (places / str(number)).mkdir()
        found.append(benchmark.run_one(number, 1, bases, places / str(number)))
    return found


def test_none_is_accepted_but_what_is_as_it_was_sealed(outcomes: list[Any]) -> None:
    answers = Counter(one.answer for one in outcomes if not one.resealed)
    assert answers.keys() <= {"refused 3", "refused 2", "unchanged"}, answers
    assert answers["refused 3"] > 300 and answers["unchanged"] < 10


def test_what_is_resealed_is_refused_or_accepted_but_never_a_failure(outcomes: list[Any]) -> None:
    answers = Counter(one.answer for one in outcomes if one.resealed)
    assert answers.keys() <= {"refused 3", "refused 2", "unchanged", "same", "other"}, answers
    assert answers["refused 3"] > 18


def test_what_is_said_is_one_printable_line(outcomes: list[Any]) -> None:
    assert [one for one in outcomes if not one.said.isprintable()] == []
