"""Packs of models: their times by name, and what is said of a pack that a runtime cannot time."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import onnxruntime
import pytest
from onnx import TensorProto, helper

from privynet.device_profiles.measuring import PackResult, run_pack
from privynet.device_profiles.targets import open_target
from privynet.errors import PrivynetError


def identity(*, opset: int = 18) -> bytes:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [image], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    serialised: bytes = model.SerializeToString()
    return serialised


def run(folder: Path, models: dict[str, bytes], *, python: str | None = None) -> PackResult:
    pack = folder / "pack.zip"
    with zipfile.ZipFile(pack, "w") as archive:
        for name, model in models.items():
            archive.writestr(name, model)
    with open_target("local", python=python) as target:
        return run_pack(pack, threads=1, seconds=1.0, target=target, on_running=lambda models, seconds: None)


def test_each_model_has_its_time(tmp_path: Path) -> None:
    result = run(tmp_path, {"one": identity(), "two": identity()})
    assert result.medians_ms.keys() == {"one", "two"}
    assert min(result.medians_ms.values()) > 0
    assert result.machine["onnxruntime"] == onnxruntime.__version__


def test_what_disturbed_one_round_is_told_and_not_counted() -> None:
    rounds = {"calm": [2.0, 2.1], "disturbed": [9.0, 3.0], "late": [5.0]}
    result = PackResult(rounds_ms=rounds, machine={})
    assert result.medians_ms == {"calm": 2.0, "disturbed": 3.0, "late": 5.0}
    assert result.agreement == 0.5
    assert PackResult(rounds_ms={"late": [5.0]}, machine={}).agreement is None


@pytest.mark.parametrize("strange", [b"this is no model", identity(opset=1000)])
def test_a_runtime_that_cannot_load_a_model_of_ours_is_not_the_user_s_fault(
    tmp_path: Path, strange: bytes
) -> None:
    expected = f"^ONNX Runtime {onnxruntime.__version__} on local cannot time strange: .*; update onnxruntime"
    with pytest.raises(PrivynetError, match=expected) as caught:
        run(tmp_path, {"strange": strange, "fine": identity()})
    assert type(caught.value) is PrivynetError


@pytest.mark.parametrize(
    "rounds",
    ('{"other": [1.0]}', *(f'{{"model": {told}}}' for told in ("[0.0]", "[NaN]", "[1e999]", "[]", "null"))),
)
def test_times_that_are_none_are_garbage(tmp_path: Path, rounds: str) -> None:
    fake = tmp_path / "python"
    line = f'{{"event": "result", "rounds_ms": {rounds}, "machine": {{}}}}'
    fake.write_text(f"#!{sys.executable}\nprint({line!r})\n")
    fake.chmod(0o755)
    with pytest.raises(PrivynetError, match="printed what is not its protocol"):
        run(tmp_path, {"model": identity()}, python=str(fake))
