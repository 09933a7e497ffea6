"""What all targets promise, tried on each of them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import psutil
import pytest

from privynet.device_profiles import bench
from privynet.device_profiles.measuring import agent, read_machine, replay, run_pack, usable_cores
from privynet.device_profiles.targets import Target, open_target

from .place import Place


def python(target: Target, code: str) -> list[str]:
    return [*target.python, "-c", code]


def ended(process: int) -> bool:
    """Whether a process is gone, or is within some seconds."""
    try:
        psutil.Process(process).wait(timeout=10)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(process)


def output(target: Target, command: list[str]) -> list[bytes]:
    with target.run(command) as running:
        return list(running.lines(30.0))


def test_a_model_is_measured(place: Place, model: Path) -> None:
    result = bench(model, on=place.url, sessions=2, min_seconds=0.2)
    assert result["on"] == place.url
    assert 0 < result["latency_ms"]["min"] <= result["latency_ms"]["median"]
    assert result["latency_ms"]["n"] >= 200
    assert result["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert result["machine"]["onnxruntime"] and result["peak_rss_kb"] > 1024
    assert place.left() == []
    assert place.is_clean()


def test_a_model_gives_there_what_it_gives_here(place: Place, model: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with open_target(place.url) as target:
        found = replay(model, {"image": images}, target=target)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    assert found.machine["onnxruntime"] == onnxruntime.__version__
    assert (found.output.shape, found.output.dtype) == ((3, 64), np.float32)
    np.testing.assert_array_equal(found.output, wanted)
    assert place.left() == []


def test_the_machine_is_told_without_timing(place: Place, model: Path) -> None:
    with open_target(place.url) as target:
        machine = read_machine(target)
    assert usable_cores(machine) == len(os.sched_getaffinity(0))
    assert machine["architecture"] == platform.machine()
    assert machine["onnxruntime"] == onnxruntime.__version__
    assert place.left() == []


def test_a_pack_is_timed_on_several_thread_counts_and_copied_once(
    place: Place, model: Path, tmp_path: Path
) -> None:
    pack = tmp_path / "pack.zip"
    with zipfile.ZipFile(pack, "w") as archive:
        archive.write(model, "encoder")
    with open_target(place.url) as target:
        for threads in (1, 2):
            result = run_pack(
                pack, threads=threads, seconds=0.2, target=target, on_running=lambda runs, seconds: None
            )
            assert result.medians_ms.keys() == {"encoder"}
        copied = [path.name.partition("-")[2] for path in place.left() if path.suffix in (".py", ".zip")]
    assert sorted(copied) == ([] if place.url == "local" else ["agent.py", "pack.zip"])


@pytest.mark.parametrize("name", ["with space, 'quote' and ünïcode.bin", "back\\slash\nand a new line.bin"])
def test_a_file_that_is_put_there_has_its_content(place: Place, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(bytes(range(256)) * 5000)
    digest = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    with open_target(place.url) as target:
        path = target.put(file)
        again = target.put(file)
        for there in (path, again):
            (line,) = output(target, [*python(target, digest), there])
            assert line.decode().strip() == hashlib.sha256(file.read_bytes()).hexdigest()
        assert target.read(path) == file.read_bytes()


def test_a_file_that_has_changed_is_put_there_anew(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "file"
    with open_target(place.url) as target:
        for content in (b"first", b"second"):
            file.write_bytes(content)
            path = target.put(file)
            assert target.read(path) == content


def test_an_empty_file_can_be_put_there(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "empty"
    file.touch()
    with open_target(place.url) as target:
        assert target.read(target.put(file)) == b""


def test_its_folder_is_private_and_gone_afterwards(place: Place, model: Path) -> None:
    with open_target(place.url) as target:
        folder = Path(target.folder)
        target.put(model)
        assert folder.is_relative_to(place.temporary)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (line,) = output(target, python(target, "import os; open('left', 'w'); print(os.getcwd())"))
        assert Path(line.decode().strip()) == folder
    assert place.left() == []


def test_arguments_arrive_as_they_are(place: Place) -> None:
    arguments = ["", "a b", "$HOME", "'", '"', "\\", "*", "-x", "ünï", "a;b", "`id`", "%s"]
    with open_target(place.url) as target:
        (line,) = output(
            target, [*python(target, "import json, sys; print(json.dumps(sys.argv[1:]))"), *arguments]
        )
    assert json.loads(line) == arguments


def test_lines_come_when_they_are_printed(place: Place) -> None:
    """The second is printed after the first has led to a file."""
    with open_target(place.url) as target:
        code = "import os, time\nprint('one', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
        with target.run(python(target, code + "print('two')")) as running:
            lines = running.lines(30.0)
            assert next(lines).strip() == b"one"
            Path(target.folder, "go").touch()
            assert [line.strip() for line in lines] == [b"two"]
            assert running.ending(30.0).code == 0


def test_a_long_line_and_one_without_an_end_arrive_whole(place: Place) -> None:
    with open_target(place.url) as target:
        lines = output(
            target, python(target, "import sys; sys.stdout.write('x' * 3_000_000 + '\\n' + 'end')")
        )
    assert [len(line) for line in lines] == [3_000_000, 3]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; print('no', file=sys.stderr); sys.exit(3)", (3, "no")),
        ("import sys; sys.stderr.write('no'); sys.exit(3)", (3, "no")),
        ("import sys; sys.exit(254)", (254, "")),
        ("import os; os.kill(os.getpid(), 15)", (-15, None)),
        ("import os; os.kill(os.getpid(), 9)", (-9, None)),
    ],
)
def test_how_a_program_ended_is_known(place: Place, code: str, expected: tuple[int, str | None]) -> None:
    with open_target(place.url) as target, target.run(python(target, code)) as running:
        assert list(running.lines(30.0)) == []
        ending = running.ending(30.0)
    assert ending.code == expected[0]
    assert expected[1] is None or ending.said == expected[1]


def test_much_on_stderr_does_not_stop_it(place: Place) -> None:
    code = "import sys; sys.stderr.write('noise\\n' * 1_000_000 + 'last\\n'); print('done')"
    with open_target(place.url) as target, target.run(python(target, code)) as running:
        assert [line.strip() for line in running.lines(60.0)] == [b"done"]
        assert running.ending(30.0).said == "last"


def test_silence_is_noticed_and_the_program_ended(place: Place) -> None:
    code = (
        "import os, time; open('pid', 'w').write(str(os.getpid())); print('up', flush=True); time.sleep(600)"
    )
    with open_target(place.url) as target:
        with target.run(python(target, code)) as running, pytest.raises(TimeoutError):
            for _ in running.lines(1.0):
                process = int(target.read(f"{target.folder}/pid"))
        assert ended(process)


def test_the_runtime_reports_to_nobody_and_leaves_no_mark(
    place: Place, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 1.29 on ONNX Runtime does both, unless told not to, or where it believes to be tested."""
    home = tmp_path / "nobody"
    home.mkdir()
    with open_target(place.url) as target:
        look = "import os; print(os.environ.get('ORT_DISABLE_TELEMETRY'))"
        (told,) = output(target, python(target, look))
    monkeypatch.setenv("HOME", str(home))
    for name in ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run(
        [sys.executable, "-I", agent.__file__, "--model", str(model), "--min-seconds", "0.2"],
        env=dict(os.environ),
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert b'"result"' in done.stdout
    assert list(home.rglob("*")) == []
    assert told.strip() == b"1"


def test_its_python_can_run_the_agent(place: Place) -> None:
    with open_target(place.url) as target:
        (line,) = output(target, python(target, "import onnxruntime, numpy; print('yes')"))
    assert line.strip() == b"yes"
