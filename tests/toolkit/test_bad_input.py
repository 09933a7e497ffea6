"""What bad input gets: one line that names the value and the next step, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from privynet.device_profiles import load_profile
from privynet.encoders import EncoderSpec, Splitter, load_backbone, make_encoder, parse_backbone

from .conftest import Outcome, run_process, tree

Run = Callable[..., Outcome]

SEARCH = ("search", "--device", "raspberry-pi-4b", "--data", "digits", "--out", "run", "--trials", "1")
RANDOM = ("--backbone", "bundled", "--weights", "random")


def profile_text(**changes: str) -> str:
    """A shipped profile's file with some text replaced."""
    import privynet.device_profiles as room

    text = (Path(room.__file__).parent / "catalogue" / "raspberry-pi-4b.toml").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with all kinds of things that cannot be used."""
    monkeypatch.chdir(tmp_path)
    known = load_profile("raspberry-pi-4b").memory_mb
    (tmp_path / "negative.toml").write_text(profile_text(**{f"value = {known:.0f}": "value = -1"}))
    (tmp_path / "missing.toml").write_text(profile_text(**{"memory_mb =": "memory ="}))
    (tmp_path / "text.toml").write_text("not a profile")
    (tmp_path / "one-class" / "cat").mkdir(parents=True)
    (tmp_path / "no-image" / "cat").mkdir(parents=True)
    (tmp_path / "no-image" / "dog").mkdir()
    (tmp_path / "text.onnx").write_text("not a graph")
    (tmp_path / "some-folder").mkdir()
    (tmp_path / "some-folder" / "file.txt").write_text("mine")
    (tmp_path / "old-run").mkdir()
    document = {"schema_version": 99, "kind": "run", "tool_version": "9.9", "inputs": {}}
    (tmp_path / "old-run" / "run.json").write_text(json.dumps(document))
    (tmp_path / "old-artifact").mkdir()
    document = {"schema_version": 99, "kind": "artifact", "tool_version": "9.9"}
    (tmp_path / "old-artifact" / "manifest.json").write_text(json.dumps(document))
    (tmp_path / "pickled.npz").write_bytes(b"")
    np.savez(tmp_path / "pickled.npz", images=np.array([{}], dtype=object), labels=np.zeros(1, np.int64))
    save_file({"other.weight": np.zeros((2, 2), np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "nocut_factory.py").write_text(
        "from torch import nn\n"
        "def flat() -> nn.Module:\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4) if False else nn.Linear(3072, 4))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return tmp_path


CASES: dict[str, tuple[Sequence[str], str]] = {
    "unknown verb": (["serach"], "unknown verb 'serach'; did you mean search?"),
    "unknown verb of devices": (["devices", "lst"], "unknown verb 'lst'; did you mean list?"),
    "unknown option": (["search", "--trails", "4"], "no such option: --trails"),
    "missing option": (["search", "--device", "raspberry-pi-4b", "--out", "run"], "missing option '--data'"),
    "unknown policy": ([*SEARCH, "--policy", "fischer"], "unknown policy 'fischer'; did you mean fisher?"),
    "payload of other bits": ([*SEARCH, "--payload-bits", "5"], "a payload of 5 bits is not possible"),
    "limits that no cut meets": ([*SEARCH, "--limit", "macs=10"], "no cut of bundled:plain8 has macs"),
    "warm start from nowhere": ([*SEARCH, "--warm-start", "nowhere"], "run folder nowhere does not exist"),
    "explaining no run": (["search", "--out", "nowhere", "--explain", "1"], "run folder nowhere does not"),
    "unknown device": (
        [*SEARCH, "--device", "raspberry-pi-9"],
        "unknown device 'raspberry-pi-9'; did you mean",
    ),
    "unknown device shown": (["devices", "show", "pi"], "unknown device 'pi'"),
    "unknown metric": (
        [*SEARCH, "--limit", "latency=5"],
        "unknown metric 'latency'; did you mean latency_ms?",
    ),
    "unknown sampler": ([*SEARCH, "--sampler", "tpee"], "unknown sampler 'tpee'; did you mean tpe?"),
    "unknown kind of backbone": ([*SEARCH, "--backbone", "tim:resnet18"], "unknown kind of backbone 'tim'"),
    "unknown network": (
        [*SEARCH, "--backbone", "torchvision:resnet19"],
        "unknown torchvision model 'resnet19'; did you mean resnet1",
    ),
    "unknown network's cuts": (["cuts", "bundled:plain9"], "unknown bundled backbone 'plain9'"),
    "unknown precision": (
        ["export", "text.json", "--out", "new", "--precision", "int4"],
        "invalid value for '--precision': 'int4' is not one of 'fp32', 'int8' (given: int4)",
    ),
    "unknown accelerator": ([*SEARCH, "--accelerator", "tpu"], "'--accelerator'"),
    "unknown data": ([*SEARCH, "--data", "digit"], "unknown data source 'digit'; did you mean digits?"),
    "negative figure": ([*SEARCH, "--device", "negative.toml"], "memory_mb"),
    "missing figure": ([*SEARCH, "--device", "missing.toml"], "memory"),
    "negative figure validated": (["devices", "validate", "negative.toml"], "memory_mb"),
    "no profile": (["devices", "validate", "text.toml"], "text.toml:1: not TOML"),
    "profile does not exist": (["devices", "validate", "nope.toml"], "nope.toml"),
    "folder does not exist": ([*SEARCH, *RANDOM, "--data", "folder:nope"], "nope"),
    "folder of one class": ([*SEARCH, *RANDOM, "--data", "folder:one-class"], "one-class"),
    "folder without an image": ([*SEARCH, *RANDOM, "--data", "folder:no-image"], "no-image"),
    "pickled npz": ([*SEARCH, *RANDOM, "--data", "npz:pickled.npz"], "pickled.npz"),
    "backbone without a cut": (
        [*SEARCH, "--backbone", "nocut_factory:flat,weights=random,mean=0.5,std=0.5", "--input-size", "32"],
        "nocut_factory:flat has no cut",
    ),
    "weights that do not fit": (
        [*SEARCH, "--backbone", "bundled", "--weights", "other.safetensors"],
        "weights do not fit",
    ),
    "weights that do not exist": ([*SEARCH, "--backbone", "bundled", "--weights", "nope.pt"], "nope.pt"),
    "weights with two backbones": (
        [*SEARCH, "--backbone", "bundled", "--backbone", "timm:resnet18", "--weights", "other.safetensors"],
        "--weights with 2 backbones",
    ),
    "limit that is no number": ([*SEARCH, "--limit", "r2=low"], "limit 'r2=low' is not a number"),
    "limit that is NaN": ([*SEARCH, "--limit", "r2=nan"], "limit r2=nan"),
    "limit without a value": ([*SEARCH, "--limit", "r2"], "limit 'r2' has no '='"),
    "zero trials": (
        [*SEARCH, "--trials", "0"],
        "'--trials': should be greater than or equal to 1 (given: 0)",
    ),
    "negative trials": ([*SEARCH, "--trials", "-3"], "(given: -3)"),
    "trials in words": ([*SEARCH, "--trials=ten"], "(given: ten)"),
    "input size out of range": ([*SEARCH, *RANDOM, "--input-size", "4"], "input size 4 is out of range"),
    "calibrating under no name": (
        ["calibrate", "--name", "My Board", "--out", "new.toml"],
        "'My Board' is no name for a device",
    ),
    "calibrating into what is there": (
        ["calibrate", "--name", "mine", "--out", "text.toml"],
        "text.toml exists",
    ),
    "calibrating under a shipped name": (
        ["calibrate", "--name", "raspberry-pi-4b", "--out", "new.toml"],
        "raspberry-pi-4b is a shipped profile's name; choose another one, such as my-raspberry-pi-4b",
    ),
    "calibrating under a generic name": (
        ["calibrate", "--name", "phone-low-end", "--out", "new.toml"],
        "phone-low-end is a shipped profile's name",
    ),
    "calibrating under a file's name": (
        ["calibrate", "--name", "mine.toml", "--out", "new.toml"],
        "'mine.toml' would be read as a file's path; call it mine",
    ),
    "calibrating over what is no profile": (
        ["calibrate", "--name", "mine", "--out", "text.toml", "--force"],
        "text.toml is no device profile, and is not replaced",
    ),
    "calibrating into a folder": (
        ["calibrate", "--name", "mine", "--out", "some-folder", "--force"],
        "some-folder is a folder",
    ),
    "calibrating into no folder": (
        ["calibrate", "--name", "mine", "--out", "nowhere/new.toml"],
        "there is no folder nowhere",
    ),
    "drawing a calibration over what is no page": (
        ["calibrate", "--name", "mine", "--out", "new.toml", "--report", "text.onnx", "--force"],
        "text.onnx is no page of privynet, and is not replaced",
    ),
    "drawing a calibration into its profile": (
        ["calibrate", "--name", "mine", "--out", "new.toml", "--report", "./new.toml"],
        "--out and --report are both new.toml",
    ),
    "calibrating elsewhere": (
        ["calibrate", "--name", "mine", "--out", "new.toml", "--on", "ftp://pi"],
        "cannot measure on 'ftp://pi'",
    ),
    "calibrating like nothing": (
        ["calibrate", "--name", "mine", "--out", "new.toml", "--like", "pi"],
        "unknown device 'pi'",
    ),
    "calibrating without time": (
        ["calibrate", "--name", "mine", "--out", "new.toml", "--seconds", "0"],
        "--seconds",
    ),
    "timing what is not ONNX": (["bench", "text.onnx"], "cannot be timed"),
    "timing what does not exist": (["bench", "nope.onnx"], "nope.onnx"),
    "timing elsewhere": (
        ["bench", "text.onnx", "--on", "ftp://pi"],
        "cannot measure on 'ftp://pi'; allowed: local, ssh://USER@HOST[:PORT], adb://SERIAL",
    ),
    "timing on what are no CPUs": (["bench", "text.onnx", "--affinity", "big"], "affinity 'big' is no list"),
    "comparing with what does not exist": (["bench", "text.onnx", "--compare", "nope.onnx"], "nope.onnx"),
    "predicting a comparison": (
        ["bench", "text.onnx", "--compare", "text.onnx", "--device", "raspberry-pi-4b"],
        "--compare predicts nothing",
    ),
    "comparing without an agent": (
        ["bench", "text.onnx", "--compare", "text.onnx", "--perf-test", "text.onnx"],
        "--compare needs a Python on the target",
    ),
    "keeping a measurement where something is": (
        ["bench", "text.onnx", "--out", "text.onnx"],
        "text.onnx exists",
    ),
    "forcing a measurement over what is not ours": (
        ["bench", "text.onnx", "--out", "text.onnx", "--force"],
        "text.onnx is not a JSON object",
    ),
    "keeping a measurement of nothing": (["bench", "text.onnx", "--out", "new.json"], "cannot be timed"),
    "predicting a mere file": (
        ["bench", "text.onnx", "--device", "raspberry-pi-4b"],
        "--device needs an artifact, text.onnx is none",
    ),
    "exporting what is no run": (
        ["export", "some-folder", "--out", "new"],
        "some-folder is not a run folder",
    ),
    "exporting nothing": (["export", "nope", "--out", "new"], "nope"),
    "a run of another schema version": (["export", "old-run", "--out", "new"], "schema version 99"),
    "searching in a run of another version": ([*SEARCH, *RANDOM, "--out", "old-run"], "schema version 99"),
    "verifying what is no artifact": (["verify", "some-folder"], "some-folder is not an artifact"),
    "an artifact of another version": (["verify", "old-artifact"], "schema version 99"),
    "timing what is no artifact": (["bench", "some-folder"], "some-folder is not an artifact"),
    "encoding with what is no artifact": (
        ["encode", "some-folder", "--data", "digits", "--split", "test", "--out", "new"],
        "some-folder is not an artifact",
    ),
    "auditing what is nothing": (["audit", "some-folder", "--data", "digits"], "some-folder"),
    "unknown attack": (
        ["audit", "old-run", "--data", "digits", "--attack", "likelihod"],
        "did you mean likelihood?",
    ),
    "training on what are no shards": (["train-head", "some-folder", "--out", "new"], "some-folder"),
    "evaluating without an artifact": (
        ["evaluate", "some-folder", "some-folder", "--data", "digits"],
        "some-folder",
    ),
    "an --out that exists": ([*SEARCH, *RANDOM, "--out", "some-folder"], "some-folder is not a run folder"),
    "forcing what is not ours": (
        [*SEARCH, *RANDOM, "--out", "some-folder", "--force"],
        "some-folder was not written by privynet",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_leaves_nothing(privynet: Run, folder: Path, case: str) -> None:
    arguments, expected = CASES[case]
    before = tree(folder)
    shown = privynet(*arguments)
    assert shown.code == 2, shown.err
    assert expected in shown.error
    assert tree(folder) == before


def test_json_errors_leave_stdout_empty(privynet: Run, folder: Path) -> None:
    assert privynet(*SEARCH, "--device", "nope", "--json").out == ""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The spec of an encoder of 2 MiB."""
    splitter = Splitter(load_backbone(parse_backbone("bundled", weights="random")), 32)
    encoder = make_encoder(splitter, cut="pool", channels=range(256))
    path = tmp_path / "encoder.json"
    encoder.spec.write(path)
    return path


def test_an_artifact_that_exists_is_kept(privynet: Run, spec: Path) -> None:
    out = spec.parent / "artifact"
    assert privynet("export", spec, "--weights", "random", "--out", out).code == 0
    manifest = (out / "manifest.json").read_bytes()
    refused = privynet("export", spec, "--weights", "random", "--out", out)
    assert refused.code == 2 and f"{out} exists" in refused.error
    assert (out / "manifest.json").read_bytes() == manifest
    assert privynet("export", spec, "--weights", "random", "--out", out, "--force").code == 0


def test_a_full_disk_is_one_line_and_leaves_nothing(spec: Path) -> None:
    def full_after_100_kib() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, 100 * 1024))

    before = tree(spec.parent)
    out = spec.parent / "artifact"
    shown = run_process(["export", spec, "--weights", "random", "--out", out], preexec_fn=full_after_100_kib)
    assert shown.code == 1
    assert "no space left while writing" in shown.error
    assert tree(spec.parent) == before


def test_another_backbone_than_the_spec_names_is_refused(privynet: Run, spec: Path) -> None:
    read = EncoderSpec.read(spec)
    read.model_copy(update={"weights_digest": "0" * 64}).write(spec)
    shown = privynet("export", spec, "--weights", "random", "--out", spec.parent / "artifact")
    assert shown.code in (2, 3) and "weights" in shown.error
