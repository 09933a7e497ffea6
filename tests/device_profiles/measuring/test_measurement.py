from __future__ import annotations

import hashlib
import json
import os
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from privynet.device_profiles import bench
from privynet.device_profiles.measuring.measurement import summarise
from privynet.device_profiles.measuring.sessions import Protocol, SessionResult, run_session
from privynet.device_profiles.targets import open_target
from privynet.errors import InputError, PrivynetError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution with a uint8 image as its input, as the exporter writes them."""
    path = tmp_path_factory.mktemp("models") / "convolution.onnx"
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "weights"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 32, 32, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 8, 30, 30])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


class Recorder:
    """A progress bar that adds up what it is told."""

    def __init__(self) -> None:
        self.done = 0.0
        self.total: float | None = None

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Recorder]:
        self.total = total
        yield self

    def advance(self, steps: float = 1, *, note: str | None = None) -> None:
        assert steps >= 0
        self.done += steps

    def warn(self, message: str) -> None:
        raise AssertionError(message)


def test_a_real_model_is_measured_with_the_record_of_the_machine(model: Path) -> None:
    progress = Recorder()
    result = bench(model, sessions=2, min_seconds=0.6, progress=progress)
    latency = result["latency_ms"]
    assert 0 < latency["min"] <= latency["median"] <= latency["p90"]
    assert latency["iqr"] >= 0
    assert latency["n"] == sum(session["latency_ms"]["n"] for session in result["sessions"]) >= 200
    assert len(result["sessions"]) == 2
    for session in result["sessions"]:
        assert session["timed_seconds"] >= 0.6
        assert 0 <= session["waited_share"] < 1
        assert set(session["before"]) == {"frequencies_khz", "temperatures_c", "load_average"}
    assert result["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert result["load_ms"] > 0
    assert result["first_ms"] > 0
    assert result["peak_rss_kb"] > 1024
    assert {"processor", "affinity", "governors", "onnxruntime", "onnxruntime_build", "threads"} <= set(
        result["machine"]
    )
    assert result["protocol"]["spinning"] is False
    assert result["valid"] == (not any(flag["disqualifying"] for flag in result["flags"]))
    assert "short-sessions" in [flag["code"] for flag in result["flags"]]
    assert progress.done == pytest.approx(2.0)
    assert progress.total == 2.0


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file .*absent\.onnx"):
        bench(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"this is not a model", b"\x08\x09"])
def test_a_file_that_is_not_onnx_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "not.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="the model cannot be timed") as caught:
        bench(path)
    assert "\n" not in str(caught.value)


def test_a_target_of_another_kind_is_an_input_error(model: Path) -> None:
    with pytest.raises(InputError, match="cannot measure on 'ftp://pi@board'; allowed: local, ssh://"):
        bench(model, on="ftp://pi@board")


@pytest.mark.parametrize(
    "options", [{"threads": 0}, {"sessions": 0}, {"min_seconds": 0}, {"min_seconds": 61}]
)
def test_counts_outside_their_range_are_input_errors(model: Path, options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(InputError, match=f"{name} is"):
        bench(model, **options)  # type: ignore[arg-type]


def test_it_runs_on_the_cpus_that_it_is_pinned_to(model: Path) -> None:
    last = max(os.sched_getaffinity(0))
    result = bench(model, sessions=1, min_seconds=0.1, affinity=[last])
    assert result["machine"]["affinity"] == [last]


def test_a_cpu_that_is_not_there_is_named(model: Path) -> None:
    with pytest.raises(PrivynetError, match="there is no CPU 4000 to run on, allowed: 0"):
        bench(model, affinity=[0, 4000])


def agents_timing(model: Path) -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if str(model) in child.cmdline()]


def test_a_measuring_process_that_is_killed_is_reported_in_one_line(model: Path) -> None:
    def kill() -> None:
        while not (found := agents_timing(model)):
            time.sleep(0.02)
        found[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(PrivynetError, match="was ended by signal 9 before its result") as caught:
        bench(model, min_seconds=30)
    killer.join()
    assert type(caught.value) is PrivynetError
    assert agents_timing(model) == []


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def run(code: str, *, silence_seconds: float = 20.0) -> SessionResult:
    with open_target("local") as target:
        return run_session(
            python(code),
            target=target,
            silence_seconds=silence_seconds,
            on_running=lambda runs, seconds: None,
        )


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    identity = tmp_path / "pid"
    code = f"import os, time; open({str(identity)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(PrivynetError, match=r"said nothing for 1\.5 s"):
        run(code, silence_seconds=1.5)
    with pytest.raises(ProcessLookupError):
        os.kill(int(identity.read_text()), 0)


@pytest.mark.parametrize(
    "line",
    [
        "Segmentation fault",
        "{}",
        "[1, 2]",
        "null",
        '{"event": "dance"}',
        '{"event": "running"}',
        '{"event": "running", "runs": "many", "seconds": 1}',
        '{"event": "running", "runs": 1e999, "seconds": 1}',
        '{"event": "running", "runs": 1, "seconds": NaN}',
        '{"event": "error"}',
        '{"event": "result", "latencies_ms": [1.0]}',
        '{"event": "result", "latencies_ms": "fast"}',
        "[" * 100_000,
    ],
)
def test_garbage_is_reported_in_one_line(line: str) -> None:
    with pytest.raises(PrivynetError, match="printed what is not its protocol") as caught:
        run(f"print({line!r})")
    assert "\n" not in str(caught.value)
    assert type(caught.value) is PrivynetError


RESULT = {
    **{"event": "result", "model_sha256": "", "machine": {}, "before": {}, "after": {}},
    **{"load_ms": 1.0, "first_ms": 1.0, "latencies_ms": [1.0], "timed_seconds": 1.0},
    **{"other_cores": None, "peak_rss_kb": None},
}


def test_a_result_without_what_the_machine_does_not_show_is_one() -> None:
    assert run(f"print({json.dumps(RESULT)!r})").latencies_ms == [1.0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("latencies_ms", f"[{value}]") for value in ("0.0", "-1.0", "NaN", "Infinity", "1e999", '"nan"')),
        *(("timed_seconds", value) for value in ("0", "NaN", "1e999")),
        *((key, value) for key in ("load_ms", "first_ms") for value in ("-1.0", "1e999")),
        *(("other_cores", "1e999"), ("peak_rss_kb", "1e999"), ("machine", '{"memory_mb": NaN}')),
        *((key, '{"memory_mb": 1e999}') for key in ("machine", "before", "after")),
    ],
)
def test_times_that_are_none_are_garbage(key: str, value: str) -> None:
    line = json.dumps({**RESULT, key: "here"}).replace('"here"', value)
    with pytest.raises(PrivynetError, match="printed what is not its protocol"):
        run(f"print({line!r})")


def test_bytes_that_are_no_text_are_garbage_too() -> None:
    with pytest.raises(PrivynetError, match="printed what is not its protocol"):
        run(r"import sys; sys.stdout.buffer.write(b'\xff\xfe\n')")


def test_a_process_that_closes_its_output_and_stays_is_ended() -> None:
    with pytest.raises(PrivynetError, match="closed its output before its result"):
        run("import os, time; os.close(1); time.sleep(600)")


def test_a_process_that_dies_says_its_last_line() -> None:
    with pytest.raises(PrivynetError, match="ended with code 1 before its result: ModuleNotFoundError"):
        run("import a_module_that_is_not_there")


def test_a_process_that_fails_is_not_the_model_s_fault() -> None:
    with pytest.raises(PrivynetError, match="failed: out of memory") as caught:
        run("""print('{"event": "error", "fault": "run", "message": "out of memory"}')""")
    assert type(caught.value) is PrivynetError


@settings(deadline=None)
@given(st.lists(st.floats(min_value=1e-3, max_value=1e4), min_size=1, max_size=200))
def test_the_summary_is_that_of_numpy(latencies: list[float]) -> None:
    summary = summarise(latencies)
    assert summary["min"] == min(latencies)
    assert summary["median"] == pytest.approx(np.median(latencies))
    quartiles = np.percentile(latencies, [25, 75])
    assert summary["iqr"] == pytest.approx(quartiles[1] - quartiles[0])
    assert summary["n"] == len(latencies)


def test_the_90th_percentile_needs_a_hundred_runs() -> None:
    assert summarise([1.0] * 99)["p90"] is None
    assert summarise([*range(1, 101)])["p90"] == pytest.approx(np.percentile(range(1, 101), 90))


def test_the_99th_percentile_needs_a_thousand_runs() -> None:
    assert "p99" not in summarise([1.0] * 999)
    assert summarise([1.0] * 989 + [2.0] * 11)["p99"] == 2.0


def test_the_protocol_is_that_of_the_documentation() -> None:
    assert Protocol() == Protocol(warmup_seconds=0.5, min_runs=100, min_seconds=5.0, max_seconds=60.0)


def test_an_interrupted_measurement_leaves_no_process(model: Path) -> None:
    class Interrupting(Recorder):
        def advance(self, steps: float = 1, *, note: str | None = None) -> None:
            assert len(agents_timing(model)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(model, min_seconds=30, progress=Interrupting())
    assert agents_timing(model) == []
