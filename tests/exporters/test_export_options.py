"""What a user can ask of an export beside the encoder: a runtime, weights, a self-test of real images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from privynet.artifacts import Artifact
from privynet.data import open_data
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError
from privynet.exporters import export, verify
from privynet.toolkit.main import main


@pytest.fixture
def spec(plain_encoder: Encoder, tmp_path: Path) -> Path:
    plain_encoder.spec.write(tmp_path / "encoder.json")
    return tmp_path / "encoder.json"


def test_the_weights_are_the_encoder_s_in_torch_s_names(
    spec: Path, plain_encoder: Encoder, tmp_path: Path
) -> None:
    result = export(spec, out=tmp_path / "artifact", with_weights=True)
    assert "encoder.safetensors" in result["files"]
    written = load_file(tmp_path / "artifact/encoder.safetensors")
    own = plain_encoder.graph_module.state_dict()
    assert written.keys() == own.keys()
    assert all(torch.equal(written[name], own[name]) for name in own)
    assert "encoder.safetensors" in (tmp_path / "artifact/README.md").read_text()
    (finding,) = verify(tmp_path / "artifact")["findings"]
    assert (finding["severity"], finding["file"]) == ("warning", "encoder.safetensors")
    export(spec, out=tmp_path / "plain")
    assert not (tmp_path / "plain/encoder.safetensors").exists()


def test_images_of_the_data_go_into_the_self_test_only_when_asked_and_with_a_warning(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "artifact"
    asked = ["export", str(spec), "--out", str(out), "--selftest", "data", "--data", "digits", "--json"]
    assert main(asked) == 0
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["severity"], finding["file"]) == ("warning", "selftest.npz")
    assert "real images of digits" in finding["message"]
    assert "holds real images" in (out / "README.md").read_text()
    with np.load(out / "selftest.npz") as archive:
        images = archive["images"]
    digits = open_data("digits")
    np.testing.assert_array_equal(images, digits.split("head-train", limit=len(images)).images(32))
    assert verify(out)["findings"] == []
    export(spec, out=tmp_path / "synthetic", data="digits")
    with np.load(tmp_path / "synthetic/selftest.npz") as archive:
        assert not any(np.array_equal(one, other) for one in archive["images"] for other in images)


def test_a_self_test_of_real_images_without_data_is_refused(spec: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data SOURCE"):
        export(spec, out=tmp_path / "artifact", selftest="data")
    assert not (tmp_path / "artifact").exists()


def test_a_runtime_that_does_not_take_the_network_gets_nothing(
    spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "artifact"
    assert main(["export", str(spec), "--out", str(out), "--for", "qnn"]) == 3
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "qnn cannot run" in error and "Conv_" in error and "--precision int8" in error
    assert not out.exists()
    assert main(["export", str(spec), "--out", str(out), "--for", "npu"]) == 2
    assert not out.exists()


def test_a_graph_for_one_runtime_is_another_graph_of_the_same_network(tmp_path: Path) -> None:
    splitter = Splitter(load_backbone(parse_backbone("torchvision:mobilenet_v3_small", weights="random")), 64)
    encoder = make_encoder(splitter, cut=splitter.cuts[4].name, salt="0" * 32)
    encoder.spec.write(tmp_path / "encoder.json")
    for runtime in (None, "nnapi"):
        out = tmp_path / str(runtime)
        result = export(tmp_path / "encoder.json", out=out, for_runtime=runtime, weights="random")
        assert result["parity"]["max_abs_error"] < 1e-4
        assert result["runtimes"]["nnapi"]["supported"] == (runtime == "nnapi")
        assert verify(out, weights="random")["findings"] == []


def test_the_manifest_says_which_tools_made_it(spec: Path, tmp_path: Path) -> None:
    export(spec, out=tmp_path / "artifact")
    tools = Artifact.open(tmp_path / "artifact").manifest.tools
    assert tools["torch"] == torch.__version__.split("+")[0] or tools["torch"] == torch.__version__
    assert {"onnx", "onnxruntime"} <= tools.keys()
