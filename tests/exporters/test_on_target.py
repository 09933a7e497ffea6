"""The self-test on the target itself, and how fast int8 is there."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import to_array

from privynet.artifacts import Artifact
from privynet.device_profiles import open_target
from privynet.encoders import Encoder
from privynet.errors import InputError
from privynet.exporters import export, verify
from privynet.exporters.int8 import in_int8
from privynet.exporters.on_target import SelfTestThere, selftest_there, timing_findings
from privynet.exporters.selftest import read_selftest, selftest_agreement

TOLD = {"processor", "architecture", "onnxruntime", "memory_mb"}
"""Of a machine, in a manifest."""


@pytest.fixture(scope="module")
def int8_spec(plain_encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "encoder.json"
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    in_int8(plain_encoder, images)[0].spec.write(path)
    return path


def test_verify_runs_the_self_test_on_the_target(small: Path) -> None:
    (measured,) = verify(small, on="local", without_torch=True)["measured"]
    assert measured["max_abs_error"] == measured["noise"] == measured["share_off"] == 0
    assert measured["on"] == "local" and measured["machine"]["onnxruntime"]
    assert verify(small, without_torch=True)["measured"] == []


def test_a_target_that_sends_something_else_is_found(small: Path) -> None:
    artifact = Artifact.open(small)
    rows = read_selftest(small / "selftest.npz", artifact.manifest)
    rows["features"] = rows["features"] + np.float32(0.01) * np.abs(rows["features"]).max()
    found = selftest_there(artifact.model, rows, artifact.manifest.payload, in_int8=False, on="local")
    assert found.fault is not None and "self-test on local is off by" in found.fault


def test_an_export_for_a_target_says_what_it_sent_there_and_how_fast_int8_is(
    int8_spec: Path, tmp_path: Path
) -> None:
    result = export(int8_spec, out=tmp_path / "artifact", on="local")
    selftest, latency = result["measured"]
    assert selftest["max_abs_error"] == 0
    low, high = latency["ratio"]["ci95"]
    assert 0 < low <= latency["ratio"]["value"] <= high
    assert latency["on"] == "local" and latency["int8_ms"] > 0 and latency["fp32_ms"] > 0
    assert latency["machine"].keys() == {*selftest["machine"], "threads"} <= {*TOLD, "threads"}
    manifest = Artifact.open(tmp_path / "artifact").manifest
    assert manifest.measured == json.loads(json.dumps(result["measured"]))
    assert [finding["code"] for finding in result["findings"]] == (["int8-slower"] if low > 1 else [])


@pytest.mark.parametrize(
    ("interval", "codes"), (((1.01, 1.3), ["int8-slower"]), ((0.98, 1.3), []), ((0.4, 0.5), []))
)
def test_int8_is_said_to_be_slower_where_its_whole_interval_is(
    interval: tuple[float, float], codes: list[str]
) -> None:
    ratio = {"value": sum(interval) / 2, "ci95": list(interval), "n": 3}
    selftest = {"what": "self-test on the target", "max_abs_error": 0.0, "on": "local"}
    found = list(timing_findings([selftest, {"ratio": ratio, "on": "local"}], in_int8=True))
    assert [finding["code"] for finding in found] == codes
    assert all("(1.01..1.30)" in one["message"] and "export in fp32" in one["message"] for one in found)


def test_int8_that_was_not_timed_is_said_to_be_so_and_float32_is_not() -> None:
    selftest = {"what": "self-test on the target", "max_abs_error": 0.0, "on": "local"}
    for measured in ([], [selftest]):
        (found,) = timing_findings(measured, in_int8=True)
        assert found["code"] == "int8-not-timed" and "--on" in found["message"]
        assert list(timing_findings(measured, in_int8=False)) == []


@pytest.mark.parametrize("on", ("ssh://quetzalcoatlus@build7:2222", "adb://R58QUETZALL"))
def test_an_artifact_does_not_name_the_target(
    on: str, small_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privynet.device_profiles.open_target", lambda _: open_target("local"))
    (measured,) = export(small_spec, out=tmp_path / "artifact", on=on)["measured"]
    assert measured["on"] == on.partition(":")[0]
    assert measured["machine"].keys() <= TOLD
    for member in (tmp_path / "artifact").iterdir():
        data = member.read_bytes()
        names = (on.partition("//")[2], "quetzal", "QUETZAL", "build7", platform.platform())
        assert [name for name in names if name.encode() in data] == [], member.name


@pytest.mark.parametrize("sent", (np.zeros((1, 2), np.float32), np.array([np.nan], np.float32)))
def test_what_is_sent_in_another_form_there_can_be_told_in_json(small: Path, sent: np.ndarray) -> None:
    artifact = Artifact.open(small)
    rows = read_selftest(small / "selftest.npz", artifact.manifest)
    sent = sent if sent.ndim > 1 else np.full_like(rows["features"], sent[0])
    found = SelfTestThere(
        selftest_agreement(rows, sent, artifact.manifest.payload, in_int8=False), "local", {}
    )
    assert found.fault is not None
    document = json.loads(json.dumps(found.document, allow_nan=False))
    assert document["max_abs_error"] is None


def test_without_a_target_int8_is_said_to_be_untimed_and_the_bytes_are_the_same(
    int8_spec: Path, tmp_path: Path
) -> None:
    results = [export(int8_spec, out=tmp_path / name) for name in ("one", "two")]
    assert [finding["code"] for finding in results[0]["findings"]] == ["int8-not-timed"]
    assert results[0]["measured"] == []
    manifest = Artifact.open(tmp_path / "one").manifest
    weights = onnx.load(tmp_path / "one/encoder.onnx").graph.initializer
    assert manifest.costs["weights_kb"] == sum(to_array(one).nbytes for one in weights) / 1024
    for member in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / member.name).read_bytes() == member.read_bytes(), member.name


def test_a_target_that_does_not_exist_leaves_nothing(small_spec: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bluetooth"):
        export(small_spec, out=tmp_path / "artifact", on="bluetooth://phone")
    assert list(tmp_path.iterdir()) == []
