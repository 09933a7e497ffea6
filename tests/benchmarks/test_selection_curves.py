"""How the benchmark of selection policies compares two of them: on curves whose difference is known."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def curves() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        module = importlib.import_module("privynet_selection_curves")
        yield module
        sys.modules.pop("privynet_selection_curves")


def test_a_shifted_line_differs_by_its_shift(curves: ModuleType) -> None:
    psnr = [14.0, 16.0, 18.0, 20.0]
    line = curves.curve(psnr, [0.5, 0.6, 0.7, 0.8])
    higher = curves.curve(psnr, [0.53, 0.63, 0.73, 0.83])
    assert curves.accuracy_gain(higher, line) == pytest.approx(0.03)
    # 0.05 to the dB
    assert curves.psnr_gain(higher, line) == pytest.approx(-0.6)
    assert curves.accuracy_gain(line, higher) == pytest.approx(-0.03)


def test_only_the_common_range_counts_and_without_one_there_is_no_figure(curves: ModuleType) -> None:
    line = curves.curve([14.0, 20.0], [0.5, 0.8])
    kinked = curves.curve([10.0, 14.0, 16.0], [0.1, 0.6, 0.7])
    assert curves.accuracy_gain(kinked, line) == pytest.approx(0.1)
    beyond = curves.curve([21.0, 23.0], [0.9, 0.95])
    assert math.isnan(curves.accuracy_gain(beyond, line)) and math.isnan(curves.psnr_gain(beyond, line))


def test_a_count_that_leaks_more_and_tells_less_is_not_taken(curves: ModuleType) -> None:
    psnr, accuracy = curves.curve([18.0, 14.0, 16.0], [0.7, 0.5, 0.4])
    np.testing.assert_array_equal(psnr, [14.0, 16.0, 18.0])
    np.testing.assert_array_equal(accuracy, [0.5, 0.5, 0.7])


def test_the_report_finds_the_difference_that_was_put_in(curves: ModuleType) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for cut in ("early", "late"):
        for policy, shift in (("fisher", 0.0), ("projection", 0.1), ("random", 0.0)):
            for draw in range(3 if policy == "random" else 1):
                for place, count in enumerate((2, 4, 8, 16)):
                    psnr = 14.0 + 2 * place + rng.normal(0, 0.1, 50)
                    hits = np.arange(1000) < 1000 * (0.5 + 0.05 * place + shift)
                    rows.append(row(cut, policy, count, draw, psnr, hits))
    text = curves.report(rows, policies=("random", "fisher", "projection"), attacks=("ridge",), seed=0)
    late = text[text.rindex("late against fisher") :]
    gained = [line for line in late.splitlines() if line.strip().startswith("projection")]
    assert len(gained) == 2
    for line in gained:
        assert float(line.split()[1]) == pytest.approx(10, abs=0.5)
        assert float(line.split("ridge")[1]) == pytest.approx(10, abs=0.5)


def row(cut: str, policy: str, count: int, draw: int, psnr: Any, hits: Any) -> dict[str, Any]:
    score = {"value": float(psnr.mean()), "ci95": [float(psnr.min()), float(psnr.max())], "n": len(psnr)}
    return {
        "cut": cut,
        "policy": policy,
        "count": count,
        "draw": draw,
        "accuracy": {"value": float(hits.mean()), "ci95": [0.0, 1.0], "n": len(hits)},
        "psnr_db": score,
        "attacks": {"ridge": {"psnr_db": float(psnr.mean()), "seconds": 1.0}},
        "seconds": {"selection": 0.0},
        "image_psnr_db": " ".join(f"{value:.2f}" for value in psnr),
        "image_hits": np.packbits(hits).tobytes().hex(),
    }
