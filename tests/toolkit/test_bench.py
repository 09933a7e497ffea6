"""``privynet bench``: what is shown and kept of a measurement, and of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console

from privynet.artifacts import read_document
from privynet.toolkit.verbs.bench import comparison_tables, tables

from . import results
from .conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    described = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4, 3])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [described], [output])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def shown(items: Any) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        for item in items:
            console.print(item, markup=False, soft_wrap=isinstance(item, str))
    return captured.get()


def comparison(**changes: Any) -> dict[str, Any]:
    document = results.bench()
    latency = {key: document[key] for key in ("latency_ms", "load_ms", "first_ms")}
    return {
        **document,
        "flags": [],
        "valid": True,
        "other": latency,
        "ratio": {"value": 0.83, "ci95": (0.81, 0.85), "n": 120},
        "verdict": "A takes 0.83 (0.81..0.85) times as long as B",
        "protocol": {"clock": "processor"},
        **changes,
    }


def test_an_invalid_measurement_says_so_and_how_to_get_a_valid_one() -> None:
    text = shown(tables({**results.bench(), "predicted_ms": None}))
    assert "invalid: others were busy" in text
    assert "INVALID: these figures are no measurement to rely on" in text
    assert "measure again" in text and "--compare" in text


def test_a_valid_one_says_nothing_of_the_kind() -> None:
    text = shown(tables({**results.bench(), "predicted_ms": None, "flags": [], "valid": True}))
    assert "INVALID" not in text and "measure again" not in text


def test_a_figure_for_which_there_are_too_few_runs_is_not_shown() -> None:
    document = {**results.bench(), "predicted_ms": None}
    document["latency_ms"] = {**document["latency_ms"], "p90": None, "n": 60}
    (line,) = (line for line in shown(tables(document)).splitlines() if "p90" in line)
    assert line.split()[-1] == "-"


def test_the_prediction_and_the_limit_say_for_how_many_threads_they_are() -> None:
    document = results.bench()
    text = shown(tables(document))
    line = "predicted (estimated) on raspberry-pi-zero-2w with 4 threads: 6 ms, 3.4 to 9.3 ms; limit 50 ms\n"
    assert line in text
    assert "note: the profile has no figures for 2 threads, which were measured" in text
    document["predicted_ms"] |= {"threads": 2, "estimated": False}
    text = shown(tables(document))
    assert "predicted on raspberry-pi-zero-2w with 2 threads: 6 ms" in text
    assert "; limit 50 ms with 4 threads\n" in text and "no figures" not in text


@pytest.mark.parametrize(("on", "named"), (("local", "this machine"), ("ssh://pi@board", "ssh://pi@board")))
def test_a_machine_whose_processor_has_no_name_is_the_target(on: str, named: str) -> None:
    document = results.bench()
    document |= {"on": on, "machine": {**document["machine"], "processor": None}}
    assert f"measured on {named}, threads: 2" in shown(tables(document))


def test_a_comparison_shows_both_and_the_verdict() -> None:
    text = shown(comparison_tables(comparison()))
    assert "in processor time" in text
    assert "0.8300 (0.8100..0.8500), 120 pairs" in text
    assert "A takes 0.83 (0.81..0.85) times as long as B" in text
    assert "INVALID" not in text


def test_a_comparison_is_kept_whole_and_not_replaced_unasked(privynet: Run, model: Path) -> None:
    out = model.parent / "comparison.json"
    command = ("bench", model, "--compare", model, "--sessions", "1", "--out", out, "--json")
    done = privynet(*command)
    assert done.code == (0 if done.json["valid"] else 3), done.err
    kept = read_document(out, "comparison")
    assert kept["ratio"] == done.json["ratio"]
    assert kept["seed"] == done.json["seed"] == 0
    assert kept["inputs"] == done.json["inputs"]
    assert {"latency_ms", "predicted_ms", "peak_rss_kb", "load_ms", "machine", "flags"} <= kept.keys()
    refused = privynet(*command)
    assert refused.code == 2 and "exists" in refused.error
    assert read_document(out, "comparison") == kept
    assert set(model.parent.iterdir()) == {model, out}
