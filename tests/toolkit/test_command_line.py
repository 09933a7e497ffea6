"""What the command line promises about help, versions, JSON and the shape of errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from .conftest import COMMAND, Outcome, run_process

VERBS = (
    "demo",
    "devices",
    "devices list",
    "devices show",
    "devices validate",
    "devices schema",
    "cache",
    "cache list",
    "cache clear",
    "cuts",
    "search",
    "defend",
    "export",
    "verify",
    "bench",
    "calibrate",
    "encode",
    "train-head",
    "evaluate",
    "audit",
)
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "onnx",
    "onnxruntime",
    "optuna",
    "sklearn",
    "scipy",
    "PIL",
)

Run = Callable[..., Outcome]


def test_help_imports_no_heavy_library() -> None:
    lines = [[*verb.split(), "--help"] for verb in ("", *VERBS)]
    program = (
        "import contextlib, io, json, sys\n"
        "from privynet.toolkit.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    codes = [main(line) for line in {lines!r}]\n"
        f"print(json.dumps([codes, [name for name in {HEAVY!r} if name in sys.modules]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    codes, heavy = json.loads(done.stdout)
    assert codes == [0] * len(lines)
    assert heavy == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_common_flags(privynet: Run, verb: str) -> None:
    shown = privynet(*verb.split(), "--help")
    assert shown.code == 0
    assert shown.out.startswith(f"Usage: privynet {verb}")
    if verb not in ("devices", "cache"):
        assert all(flag in shown.out for flag in ("--json", "--seed", "--debug"))


def test_version(privynet: Run) -> None:
    assert privynet("--version").out == f"privynet {version('privynet')}\n"


def test_no_verb_shows_help_on_stderr_and_is_a_usage_error(privynet: Run) -> None:
    shown = privynet()
    assert (shown.code, shown.out) == (2, "")
    assert "Commands:" in shown.err


def test_json_is_one_object_on_stdout_and_nothing_else(privynet: Run) -> None:
    shown = privynet("devices", "list", "--json", "--seed", "5")
    assert shown.code == 0
    assert {"schema_version": 1, "tool_version": version("privynet"), "seed": 5}.items() <= shown.json.items()
    assert {"name", "title", "class", "limits", "latency_error", "own"} == set(shown.json["devices"][0])
    assert "raspberry-pi-4b" in {device["name"] for device in shown.json["devices"]}


def test_devices_show_gives_the_profile_with_its_sources(privynet: Run) -> None:
    profile = privynet("devices", "show", "raspberry-pi-5", "--json").json["profile"]
    assert profile["name"] == "raspberry-pi-5"
    assert profile["memory_mb"]["source"]
    assert "Raspberry Pi 5" in privynet("devices", "show", "raspberry-pi-5").out


def test_cuts_lists_what_the_backbone_gives(privynet: Run) -> None:
    shown = privynet("cuts", "bundled", "--input-size", "16", "--json")
    assert shown.code == 0
    cuts = shown.json["cuts"]
    keys = {"name", "index", "shape", "macs", "weights_kb", "peak_ram_kb", "payload_bytes"}
    assert [set(cut) for cut in cuts] == [keys] * len(cuts)
    assert [cut["index"] for cut in cuts] == list(range(len(cuts)))
    channels, height, width = cuts[0]["shape"]
    assert cuts[0]["payload_bytes"] == 4 * channels * height * width
    # the first convolution, 3x3 over three colours
    assert cuts[0]["macs"] == 9 * 3 * channels * height * width


def test_a_terminal_less_table_is_not_cut_off(privynet: Run) -> None:
    shown = privynet("cuts", "bundled")
    assert "payload (bytes)" in shown.out and "…" not in shown.out


def test_debug_shows_where_an_error_came_from(privynet: Run) -> None:
    plain = privynet("devices", "show", "nope")
    assert "Traceback" not in plain.err
    for line in (("--debug", "devices", "show", "nope"), ("devices", "show", "nope", "--debug")):
        shown = privynet(*line)
        assert shown.code == 2
        assert "Traceback" in shown.err and shown.err.endswith(plain.error + "\n")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [*COMMAND, "devices", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_a_full_disk_behind_stdout_is_one_line() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [*COMMAND, "devices", "list", "--json"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "error: cannot print the result: No space left on device\n"


def test_the_module_runs_as_a_program() -> None:
    shown = run_process(["--version"])
    assert (shown.code, shown.out) == (0, f"privynet {version('privynet')}\n")
