"""The fit of the latency models: the script in benchmarks/ and the figures it has written."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "fit_latency_models.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("fit_latency_models", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def numbers(section: Any, path: str = "") -> dict[str, float]:
    if isinstance(section, dict):
        return {k: v for key, inner in section.items() for k, v in numbers(inner, f"{path}.{key}").items()}
    return {path: float(section)} if isinstance(section, int | float) else {}


def test_the_shipped_coefficients_are_what_the_fit_gives(script: ModuleType) -> None:
    texts, errors = script.profiles()
    assert set(texts) == set(script.CATALOGUE.glob("*.toml"))
    for path, text in texts.items():
        shipped = tomllib.loads(path.read_text(encoding="utf-8"))
        fitted = tomllib.loads(text)
        assert numbers(shipped) == pytest.approx(numbers(fitted), rel=2e-3), path.name
    for family, found in errors.items():
        assert len(set(found.networks)) == len(script.NETWORKS), family
        assert np.median(found.relative) < 0.25, family


def synthetic(script: ModuleType, scales: list[float], coefficients: list[float]) -> tuple[Any, Any]:
    generator = np.random.default_rng(3)
    features = {name: generator.random(5) + 0.1 for name in script.NETWORKS}
    rows = [
        script.Row(
            "family",
            f"device-{number}",
            1,
            "t",
            {n: s * float(f @ coefficients) for n, f in features.items()},
        )
        for number, s in enumerate(scales)
    ]
    return rows, features


def test_the_fit_finds_the_coefficients_that_made_the_times(script: ModuleType) -> None:
    coefficients = [3.0, 2.0, 0.5, 0.0, 7.0]
    rows, features = synthetic(script, [0.5, 1.0, 4.0], coefficients)
    fitted = script.fit(rows, features)
    assert fitted.coefficients == pytest.approx(coefficients, abs=1e-6)
    assert fitted.scales == pytest.approx([0.5, 1.0, 4.0])


def test_a_network_that_is_left_out_is_predicted_by_the_others(script: ModuleType) -> None:
    rows, features = synthetic(script, [0.5, 1.0, 4.0], [3.0, 2.0, 0.5, 1.0, 7.0])
    assert script.leave_one_network_out(rows, features).ratios == pytest.approx(1.0)
    for row in rows:
        row.times_ms["vgg16"] *= 2
    found = script.leave_one_network_out(rows, features)
    assert found.ratios[np.array(found.networks) == "vgg16"] == pytest.approx(2.0)
    assert found.interval[1] > 1.3


def test_no_coefficient_is_negative(script: ModuleType) -> None:
    rows, features = synthetic(script, [1.0, 2.0], [3.0, 2.0, -0.4, 1.0, 7.0])
    assert (script.fit(rows, features).coefficients >= 0).all()
