"""What goes wrong on the way to a target or on it: one line, and nothing left there."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from privynet.device_profiles import bench
from privynet.device_profiles.measuring import measurement
from privynet.device_profiles.targets import open_target
from privynet.errors import InputError, PrivynetError

from .place import PYTHON, Elsewhere, Place, eventually

AGENT_ONLY = f'case "$1" in -c) {PYTHON} ;; esac\n'
"""The start of a Python that is one when it is looked at, and something else with the agent."""


@contextmanager
def once_running(place: Place, act: Callable[[list[psutil.Process]], object]) -> Iterator[None]:
    """Do something as soon as the agent runs there."""

    def wait() -> None:
        if eventually(lambda: place.running("python") != [], seconds=60.0):
            act(place.running("python"))

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    thread.join()


def fails(place: Place, model: Path, match: str, kind: type[PrivynetError] = PrivynetError) -> str:
    with pytest.raises(PrivynetError, match=match) as caught:
        bench(model, on=place.url, min_seconds=30)
    assert isinstance(caught.value, InputError) == (kind is InputError)
    assert "\n" not in str(caught.value)
    assert place.is_clean()
    return str(caught.value)


def test_a_connection_that_is_cut(elsewhere: Elsewhere, model: Path) -> None:
    with once_running(elsewhere, lambda _: elsewhere.cut()):
        fails(elsewhere, model, "^the connection to (ssh|adb)://.* was cut; nothing was measured; try again$")


def test_a_connection_that_is_cut_while_a_file_is_copied(elsewhere: Elsewhere, tmp_path: Path) -> None:
    large = tmp_path / "large.onnx"
    with large.open("wb") as stream:
        stream.truncate(400_000_000)
    copying = threading.Thread(
        target=lambda: (
            eventually(lambda: any(p.suffix == ".onnx" for p in elsewhere.left())) and elsewhere.cut()
        )
    )
    copying.start()
    fails(elsewhere, large, "^the connection to (ssh|adb)://.* was cut")
    copying.join()


def test_a_full_disk(elsewhere: Elsewhere, model: Path) -> None:
    elsewhere.limit(resource.RLIMIT_FSIZE, 100_000)
    message = fails(elsewhere, model, r"^encoder\.onnx cannot be copied to .*: .*; free some room there")
    assert "too large" in message or "size limit" in message


def test_a_disk_that_is_too_small_is_noticed_before_the_copy(elsewhere: Elsewhere, model: Path) -> None:
    elsewhere.program(
        "df", "echo 'Filesystem 1024-blocks Used Available Capacity Mounted'; echo 'd 9 8 64 9% /'"
    )
    fails(elsewhere, model, r"^encoder\.onnx takes 787 kB, .* has \d\d kB left; free some room there")


def test_what_was_copied_counts_towards_the_room_that_there_was(elsewhere: Elsewhere, tmp_path: Path) -> None:
    elsewhere.program("df", "echo 'd 9 8 64 9% /'")
    file = tmp_path / "file"
    with open_target(elsewhere.url) as target:
        file.write_bytes(b"1" * 40_000)
        assert target.put(file) == target.put(file)
        file.write_bytes(b"2" * 40_000)
        with pytest.raises(PrivynetError, match=r"^file takes 40 kB, .* has 26 kB left; free some room"):
            target.put(file)


def test_a_copy_that_was_damaged_or_lost_is_made_anew(elsewhere: Elsewhere, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    with open_target(elsewhere.url) as target:
        Path(target.put(file)).write_bytes(b"damage")
        again = Path(target.put(file))
        assert again.read_bytes() == b"content"
        again.unlink()
        assert target.read(target.put(file)) == b"content"


def test_memory_that_does_not_suffice(elsewhere: Elsewhere, greedy_model: Path) -> None:
    elsewhere.program("python3", f'case "$1" in -c) ;; *) ulimit -v 1000000 ;; esac\n{PYTHON}')
    fails(elsewhere, greedy_model, "^the measuring process failed: .*[Ff]ailed to allocate memory")


def test_an_agent_that_is_killed(elsewhere: Elsewhere, model: Path) -> None:
    with once_running(elsewhere, lambda found: [process.kill() for process in found]):
        fails(
            elsewhere, model, "^the measuring process was ended by signal 9 before its result.*out of memory"
        )


def test_an_agent_that_hangs(elsewhere: Elsewhere, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "SILENCE_SECONDS", 3.0)
    with once_running(elsewhere, lambda found: [process.send_signal(signal.SIGSTOP) for process in found]):
        fails(elsewhere, model, "^the measuring process said nothing for 3 s and was ended")


def test_garbage_on_stdout(elsewhere: Elsewhere, model: Path) -> None:
    elsewhere.program("python3", AGENT_ONLY + "head -c 300 /dev/urandom; echo; exec sleep 600")
    fails(elsewhere, model, "^the measuring process printed what is not its protocol: ")


def test_a_python_for_another_processor(elsewhere: Elsewhere, model: Path) -> None:
    other = elsewhere.programs / "python3"
    sparc = b"\x7fELF\x01\x02\x01" + bytes(9) + struct.pack(">HHI", 2, 2, 1) + bytes(200)
    other.unlink()
    other.write_bytes(sparc)
    other.chmod(0o755)
    fails(
        elsewhere,
        model,
        r"^python3 on .* \(\w+\) does not run as a Python: it is no program for that processor; name another",
    )


def test_an_onnxruntime_for_another_processor(elsewhere: Elsewhere, model: Path) -> None:
    """Found, but not to be imported."""
    broken = elsewhere.programs / "onnxruntime"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('onnxruntime.so: wrong ELF class: ELFCLASS32')")
    elsewhere.program("python3", f"PYTHONPATH='{elsewhere.programs}'; export PYTHONPATH\n{PYTHON}")
    fails(
        elsewhere,
        model,
        "^the measuring process ended with code 1 before its result: ImportError: .*wrong ELF",
    )


def test_no_python(elsewhere: Elsewhere, model: Path) -> None:
    (elsewhere.programs / "python3").unlink()
    hint = {
        "ssh": "run there: sudo apt-get install python3",
        "adb": "name Termux's with --python, or give .*",
    }
    fails(elsewhere, model, f"^there is no Python on .*; {hint[elsewhere.url.partition(':')[0]]}$")


def test_a_python_without_what_the_agent_needs(elsewhere: Elsewhere, model: Path) -> None:
    elsewhere.program("python3", PYTHON.replace('"$@"', '-S "$@"'))
    hint = "run there: python3 -m pip install numpy onnxruntime"
    fails(elsewhere, model, f"^python3 on .* lacks numpy and onnxruntime; {hint}$")


def test_a_python_that_is_too_old(elsewhere: Elsewhere, model: Path) -> None:
    elsewhere.program("python3", "echo 'python 3 8'")
    fails(elsewhere, model, r"^python3 on .* is 3\.8, 3\.9 is needed")


def test_a_second_python_is_taken_when_the_first_is_of_no_use(elsewhere: Elsewhere, model: Path) -> None:
    elsewhere.program("python3", "echo 'python 3 8'")
    elsewhere.program("python", PYTHON)
    assert bench(model, on=elsewhere.url, sessions=1, min_seconds=0.1)["latency_ms"]["n"] >= 100


def test_the_python_that_was_asked_for_is_an_input_error(elsewhere: Elsewhere, model: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no /opt/python on .*; name one with --python$"):
        bench(model, on=elsewhere.url, python="/opt/python")
    elsewhere.program("other", PYTHON)
    assert (
        bench(model, on=elsewhere.url, python="~/other", sessions=1, min_seconds=0.1)["latency_ms"]["n"]
        >= 100
    )


def test_a_file_that_arrives_damaged(elsewhere: Elsewhere, model: Path) -> None:
    elsewhere.program("sha256sum", f"{{ cat; echo damage; }} | {shutil.which('sha256sum')}")
    fails(elsewhere, model, r"^agent\.py arrived damaged on .*: its SHA-256 is \w{12}… instead of \w{12}…")


def test_a_model_that_cannot_be_timed_is_an_input_error(elsewhere: Elsewhere, tmp_path: Path) -> None:
    path = tmp_path / "not.onnx"
    path.write_bytes(b"this is no model")
    fails(elsewhere, path, "^the model cannot be timed", InputError)


def test_a_guard_that_is_killed_does_not_matter(elsewhere: Elsewhere, model: Path) -> None:
    """What it would have cleaned is cleaned over another connection."""
    with open_target(elsewhere.url) as target:
        target.put(model)
        assert elsewhere.guards()
        for process in elsewhere.guards():
            process.kill()
    assert elsewhere.left() == []


COMMAND = [sys.executable, "-m", "privynet.toolkit.main", "bench", "--json", "--sessions", "9"]


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, b"error: interrupted\n"), (signal.SIGKILL, -9, None)]
)
def test_ending_the_command_ends_it_there(
    elsewhere: Elsewhere, model: Path, number: int, code: int, said: bytes | None
) -> None:
    """Ctrl-C goes to all processes of the terminal."""
    command = [*COMMAND, str(model), "--on", elsewhere.url]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, start_new_session=True, **pipes)  # type: ignore[call-overload]
    with once_running(elsewhere, lambda _: os.killpg(process.pid, number)):
        out, errors = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, b""), errors.decode()
    assert said is None or errors.endswith(said)
    assert elsewhere.is_clean()


def test_what_goes_wrong_is_one_line_of_the_command_and_no_result(elsewhere: Elsewhere, model: Path) -> None:
    command = [*COMMAND, str(model), "--on", elsewhere.url]
    with once_running(elsewhere, lambda _: elsewhere.cut()):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "Traceback" not in done.stderr
    assert elsewhere.is_clean()
