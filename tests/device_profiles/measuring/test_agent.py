"""The agent is one file for other machines: what it may import, which Python it needs, what it prints."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from privynet.device_profiles import measuring

AGENT = Path(measuring.__file__).with_name("agent.py")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_identity(tmp_path / "identity.onnx")


def save_identity(path: Path, *, shape: tuple[int | str, ...] = (1, 4, 4, 3), inputs: int = 1) -> Path:
    names = [f"x{number}" for number in range(inputs)]
    described = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    cast = helper.make_node("Cast", names[:1], ["y"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast], "identity", described, [output])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def run_agent(agent: Path, model: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-I", str(agent), "--model", str(model), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_it_is_python_3_9_and_needs_nothing_but_numpy_and_onnxruntime() -> None:
    tree = ast.parse(AGENT.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_a_copy_of_the_one_file_works_elsewhere(model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(AGENT, tmp_path / "copy.py"))
    code, events = run_agent(copy, model, "--warmup-seconds", "0", "--min-runs", "7", "--min-seconds", "0")
    assert code == 0
    assert [event["event"] for event in events] == ["loaded", "result"]
    result = events[-1]
    assert len(result["latencies_ms"]) == 7
    assert result["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert result["machine"]["onnxruntime"]
    assert {"before", "after", "first_ms", "load_ms", "peak_rss_kb"} <= set(result)


def test_it_tells_the_machine_alone(model: Path) -> None:
    command = [sys.executable, "-I", str(AGENT), "--machine"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (line,) = done.stdout.splitlines()
    _, events = run_agent(AGENT, model, "--warmup-seconds", "0", "--min-runs", "1", "--min-seconds", "0")
    assert json.loads(line) == {"event": "result", "machine": events[-1]["machine"]}


def test_the_peak_of_memory_is_the_agent_s_own_not_that_of_the_process_that_started_it(model: Path) -> None:
    ballast = b"\1" * (300 * 2**20)
    _, events = run_agent(AGENT, model, "--warmup-seconds", "0", "--min-runs", "1", "--min-seconds", "0")
    assert events[-1]["peak_rss_kb"] < len(ballast) / 1024


def test_it_stops_at_the_cap_even_with_too_few_runs(model: Path) -> None:
    _, events = run_agent(
        AGENT, model, "--warmup-seconds", "0", "--min-runs", "1000000000", "--max-seconds", "0.2"
    )
    assert 0 < len(events[-1]["latencies_ms"]) < 10**9
    assert events[-1]["timed_seconds"] < 5


def test_the_input_is_the_same_in_every_process() -> None:
    code = (
        "import runpy, sys, types\n"
        f"agent = runpy.run_path({str(AGENT)!r}, run_name='agent')\n"
        "described = types.SimpleNamespace(name='x', type='tensor(uint8)', shape=[1, 2, 2, 3])\n"
        "session = types.SimpleNamespace(get_inputs=lambda: [described])\n"
        "print(agent['random_inputs'](session, 0)['x'].tobytes().hex())\n"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("shape", [("batch", 4, 4, 3), (1, "h", 4, 3)])
def test_an_open_shape_is_the_model_s_fault(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    code, events = run_agent(AGENT, save_identity(tmp_path / "open.onnx", shape=shape))
    assert code == 2
    assert events[-1]["fault"] == "model"
    assert "open shape" in events[-1]["message"]


def test_every_input_is_fed(tmp_path: Path) -> None:
    """As an encoder that takes noise beside the image."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, (1, 4, 4, 3))
    noise = helper.make_tensor_value_info("noise", TensorProto.FLOAT, (1, 4, 4, 3))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 4, 3))
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["float", "noise"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "noisy", [image, noise], [output])
    path = tmp_path / "noisy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    code, events = run_agent(AGENT, path, "--warmup-seconds", "0", "--min-runs", "3", "--min-seconds", "0")
    assert code == 0 and len(events[-1]["latencies_ms"]) == 3


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    code, events = run_agent(AGENT, tmp_path / "absent.onnx")
    assert code == 1
    assert events[-1]["event"] == "error"


@pytest.mark.parametrize("elements", [1 << 21, 1 << 23])
def test_the_memory_of_the_first_run_is_what_is_alive_at_once(tmp_path: Path, elements: int) -> None:
    """Two concatenations: before the end all three tensors are alive."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, (1, elements))
    output = helper.make_tensor_value_info("c", TensorProto.FLOAT, (1, elements * 3))
    nodes = [
        helper.make_node("Cast", ["image"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["a", "a"], ["b"], axis=1),
        helper.make_node("Concat", ["b", "a"], ["c"], axis=1),
    ]
    graph = helper.make_graph(nodes, "growing", [image], [output])
    path = tmp_path / "growing.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    code, events = run_agent(AGENT, path, "--memory")
    assert code == 0
    result = events[-1]
    assert result["inputs_kb"] == elements / 1024
    assert result["outputs_kb"] == elements * 12 / 1024
    alive = elements * (4 + 8 + 12) / 1024
    assert result["peak_growth_kb"] - result["file_growth_kb"] == pytest.approx(alive, abs=1024)
    assert result["first_ms"] > 0 and result["load_ms"] > 0
