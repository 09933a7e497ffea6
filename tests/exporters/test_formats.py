"""Other containers of the same encoder: ONNX Runtime's own, and those whose converters are missing here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from privynet.artifacts import Artifact, OrtEncoder
from privynet.encoders import Encoder
from privynet.errors import InputError, NegativeResult, PrivynetError
from privynet.exporters import export, verify
from privynet.exporters.formats import FORMATS, Source, check_formats, write_formats
from privynet.exporters.formats.ort import ort_fault
from privynet.exporters.formats.ort_order import in_fixed_order
from privynet.exporters.int8 import in_int8
from privynet.exporters.probes import probes
from privynet.toolkit.main import main

from .hostile import reseal
from .traces import traces_of_this_machine


@pytest.fixture(scope="module", params=("plain", "noisy"))
def encoder(request: pytest.FixtureRequest, plain_encoder: Encoder, noisy_encoder: Encoder) -> Encoder:
    return plain_encoder if request.param == "plain" else noisy_encoder


@pytest.fixture(scope="module")
def artifact(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ort")
    encoder.spec.write(folder / "encoder.json")
    export(folder / "encoder.json", out=folder / "artifact", formats=["ort", "onnx"])
    return folder / "artifact"


def opened(path: Path, encoder: Encoder) -> OrtEncoder:
    return OrtEncoder.open(
        path, payload=encoder.payload, noise_std=encoder.noise_std, feature_shape=encoder.feature_shape
    )


def test_ort_sends_what_onnx_does(encoder: Encoder, artifact: Path) -> None:
    manifest = Artifact.open(artifact).manifest
    assert manifest.formats == ("onnx", "ort")
    assert manifest.parity["formats"]["ort"]["max_abs_error"] < 1e-4
    assert verify(artifact)["findings"] == []
    images, noise = probes(32, encoder.feature_shape if encoder.noise_std else None, seed=9)
    got = opened(artifact / "encoder.ort", encoder).send(images, noise)
    wanted = opened(artifact / "encoder.onnx", encoder).send(images, noise)
    decode = encoder.payload.decode
    steps = 1.5 * encoder.payload.scale if encoder.payload.quantised else 1e-4
    assert np.abs(decode(got, encoder.feature_shape) - decode(wanted, encoder.feature_shape)).max() <= steps


def test_ort_is_optimised_for_no_processor_in_particular(artifact: Path) -> None:
    config = (artifact / "required_operators.config").read_text()
    lines = [line for line in config.splitlines() if not line.startswith("#")]
    listed = {
        f"{domain}:{operator}"
        for line in lines
        for domain, _, names in [line.split(";")]
        for operator in names.split(",")
    }
    assert "ai.onnx:Conv" in listed or "com.microsoft:FusedConv" in listed
    assert not any(domain.startswith("com.microsoft.nchwc") for domain in listed)
    # It loads as it is: nothing is left to be optimised.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    onnxruntime.InferenceSession(artifact / "encoder.ort", options, providers=["CPUExecutionProvider"])


def test_another_process_in_another_folder_writes_the_same_bytes(artifact: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from privynet.exporters import export;"
        "export(Path(sys.argv[1]), out=Path('again'), formats=['ort'])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    spec = artifact.parent / "encoder.json"
    subprocess.run([sys.executable, "-c", code, str(spec)], cwd=tmp_path, env=environment, check=True)
    for member in artifact.iterdir():
        assert (tmp_path / "again" / member.name).read_bytes() == member.read_bytes(), member.name


def test_the_order_of_a_hash_table_does_not_show(artifact: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 4
    written = set()
    for at in range(20):
        options.optimized_model_filepath = str(tmp_path / f"{at}.ort")
        onnxruntime.InferenceSession(artifact / "encoder.onnx", options, providers=["CPUExecutionProvider"])
        written.add((tmp_path / f"{at}.ort").read_bytes())
    assert len(written) > 1, "the reason for all this is gone"
    assert len({in_fixed_order(data) for data in written}) == 1


def test_bytes_of_another_form_are_refused() -> None:
    with pytest.raises(PrivynetError, match="not known here"):
        in_fixed_order(bytes(200))


def test_nothing_in_any_file_tells_of_the_machine(artifact: Path) -> None:
    for member in artifact.iterdir():
        assert traces_of_this_machine(member.read_bytes()) == [], member.name


def test_an_ort_file_of_another_encoder_is_found_however_well_it_is_digested(
    artifact: Path, encoder: Encoder, tmp_path: Path
) -> None:
    forged = Path(shutil.copytree(artifact, tmp_path / "forged"))
    data = bytearray((forged / "encoder.ort").read_bytes())
    weights = max(onnx.load(forged / "encoder.onnx").graph.initializer, key=lambda one: len(one.raw_data))
    values = np.frombuffer(weights.raw_data, np.float32)
    at = data.index(values.tobytes())
    data[at : at + values.nbytes] = (values * np.float32(1.5)).tobytes()
    (forged / "encoder.ort").write_bytes(data)
    reseal(forged)
    (finding,) = verify(forged, without_torch=True)["findings"]
    assert (finding["code"], finding["file"]) == ("parity", "encoder.ort")


@pytest.mark.parametrize("data", (b"", b"no graph", b"\0\0\0\0ORTM" + bytes(64)))
def test_an_ort_file_that_is_none_is_found(artifact: Path, data: bytes, tmp_path: Path) -> None:
    forged = Path(shutil.copytree(artifact, tmp_path / "forged"))
    (forged / "encoder.ort").write_bytes(data)
    reseal(forged)
    (finding,) = verify(forged, without_torch=True)["findings"]
    assert (finding["code"], finding["file"]) == ("graph", "encoder.ort")
    assert str(forged) not in finding["message"]


def test_a_format_that_gives_other_values_is_not_shipped(plain_encoder: Encoder, tmp_path: Path) -> None:
    plain_encoder.spec.write(tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "artifact")
    images, noise = probes(32, None, seed=0)
    model = tmp_path / "artifact/encoder.onnx"
    wanted = opened(model, plain_encoder).send(images) + 1
    with pytest.raises(NegativeResult, match=r"format ort differs from encoder\.onnx by 1"):
        write_formats(["ort"], Source(plain_encoder, model, images, noise, wanted), tmp_path)


def test_what_onnx_runtime_cannot_write_is_an_error_of_ours(plain_encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "encoder.onnx").write_bytes(b"no graph")
    images, noise = probes(32, None, seed=0)
    wanted = np.zeros((len(images), *plain_encoder.feature_shape), np.float32)
    with pytest.raises(PrivynetError, match=r"cannot write encoder\.ort: .*; leave --format ort out"):
        write_formats(
            ["ort"], Source(plain_encoder, tmp_path / "encoder.onnx", images, noise, wanted), tmp_path
        )


@pytest.fixture(scope="module")
def int8_encoder(plain_encoder: Encoder) -> Encoder:
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    return in_int8(plain_encoder, images)[0]


@pytest.mark.parametrize(("noise", "shipped"), ((0.02, True), (0.05, False)))
def test_integers_may_be_rounded_otherwise_in_ort_as_in_the_self_test(
    int8_encoder: Encoder, noise: float, shipped: bool, tmp_path: Path
) -> None:
    int8_encoder.spec.write(tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "artifact", formats=["ort"])
    artifact = Artifact.open(tmp_path / "artifact")
    session = artifact.session()
    images, _ = probes(32, None, seed=0)

    def rounded_otherwise(images: np.ndarray, _: object = None) -> np.ndarray:
        sent = session.send(images)
        signs = np.random.default_rng(0).choice([-1, 1], sent.shape)
        return sent + (signs * noise * np.sqrt(np.mean(sent**2))).astype(np.float32)

    source = Source(int8_encoder, artifact.model, images, None, rounded_otherwise(images))
    with nullcontext() if shipped else pytest.raises(NegativeResult, match="differs"):
        write_formats(["ort"], source, tmp_path)
    other = SimpleNamespace(input_size=32, feature_shape=None, noise=None, send=rounded_otherwise)
    assert (ort_fault(artifact, other, seed=1) is None) == shipped  # type: ignore[arg-type]


@pytest.mark.parametrize("saturating", (True, False))
def test_every_session_asks_for_exact_sums_of_products_where_they_would_overflow(
    int8_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saturating: bool
) -> None:
    """On x86 without integer dot products; elsewhere that would halve the speed."""
    monkeypatch.setattr("privynet.artifacts.sessions.saturates", lambda: saturating)
    asked = []

    class Session(onnxruntime.InferenceSession):  # type: ignore[misc, unused-ignore]
        def __init__(self, path: Any, options: Any = None, **others: Any) -> None:
            key = "session.x64quantprecision"
            try:
                asked.append(options.get_session_config_entry(key))
            except RuntimeError:  # it has none
                asked.append("")
            super().__init__(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    images = np.zeros((1, 32, 32, 3), np.uint8)
    in_int8(int8_encoder.in_int8(None), images)[0].spec.write(tmp_path / "encoder.json")
    export(tmp_path / "encoder.json", out=tmp_path / "artifact", formats=["ort"])
    assert len(asked) > 4 and set(asked) == {"1" if saturating else ""}


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.modules])
def test_a_converter_that_is_missing_names_its_extra(
    name: str, plain_encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        check_formats([name])
    except InputError:
        plain_encoder.spec.write(tmp_path / "encoder.json")
        command = ["export", str(tmp_path / "encoder.json"), "--out", str(tmp_path / "out"), "--format", name]
        assert main(command) == 2
        assert f"pip install 'privynet[{name}]'" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_unknown_formats_and_precisions_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean onnx"):
        check_formats(["onx"])
    with pytest.raises(InputError, match="litert is converted from the float32 network"):
        check_formats(["litert"], precision="int8")
    assert check_formats(["ort", "onnx", "ort"], precision="int8") == ["ort"]


def test_the_verb_shows_formats_and_runtimes(
    plain_encoder: Encoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_encoder.spec.write(tmp_path / "encoder.json")
    command = ["export", str(tmp_path / "encoder.json"), "--out", str(tmp_path / "out"), "--format", "ort"]
    assert main([*command, "--for", "nnapi"]) == 0
    shown = capsys.readouterr().out
    assert "parity of ort with ONNX" in shown and "takes the network" in shown
    assert main(["verify", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runtimes"]["nnapi"]["supported"] and not found["runtimes"]["qnn"]["supported"]
    assert set(found["files"]) >= {"encoder.ort", "required_operators.config"}
