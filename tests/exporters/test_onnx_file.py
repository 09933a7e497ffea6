"""One ONNX file: equal to torch, static, the same bytes each time, silent about the machine that built it."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import NegativeResult
from privynet.exporters import export_module, write_onnx

SALT = "0" * 32


def small_encoder() -> Encoder:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    return make_encoder(splitter, cut="blocks.2.2", channels=(3, 1, 40), salt=SALT)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    write_onnx(small_encoder(), path)
    return path


def test_the_graph_is_static_and_takes_camera_bytes(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape) == ("images", "tensor(uint8)", [1, 32, 32, 3])
    assert (target.name, target.type, target.shape) == ("features", "tensor(float)", [1, 3, 16, 16])
    model = onnx.load(exported)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [20]
    assert "Gather" not in {node.op_type for node in model.graph.node}
    assert not list(exported.parent.glob("*.data"))


def test_onnx_runtime_gives_what_torch_gives_on_images_not_seen_at_export(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    encoder = small_encoder()
    for seed in range(5):
        image = np.random.default_rng(100 + seed).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
        (got,) = session.run(None, {"images": image})
        np.testing.assert_allclose(got, encoder(torch.from_numpy(image)).numpy(), rtol=1e-4, atol=1e-5)


def test_another_process_in_another_folder_writes_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from privynet.encoders import *; from privynet.exporters import write_onnx;"
        "s = Splitter(load_backbone(parse_backbone('bundled')), 32);"
        f"e = make_encoder(s, cut='blocks.2.2', channels=(3, 1, 40), salt='{SALT}');"
        "write_onnx(e, Path(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    other = tmp_path / "other.onnx"
    subprocess.run([sys.executable, "-c", code, str(other)], cwd=tmp_path, env=environment, check=True)
    assert hashlib.sha256(other.read_bytes()).digest() == hashlib.sha256(exported.read_bytes()).digest()


def test_nothing_in_the_file_tells_of_the_machine(exported: Path) -> None:
    data = exported.read_bytes()
    traces = {str(Path.home()), str(Path.cwd()), sys.prefix, socket.gethostname(), "site-packages", ".py"}
    if getpass.getuser() != "root":  # four letters that weights can hold by chance
        traces.add(getpass.getuser())
    assert [trace for trace in traces if len(trace) > 2 and trace.encode() in data] == []


def test_a_head_is_exported_with_a_free_batch(tmp_path: Path) -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    facts = export_module(
        head,
        torch.randn(2, 3, 2, 2),
        tmp_path / "head.onnx",
        input_name="features",
        output_name="logits",
        dynamic_batch=True,
    )
    assert facts["max_abs_error"] < 1e-5 and facts["bytes"] == (tmp_path / "head.onnx").stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx", providers=["CPUExecutionProvider"])
    for n in (1, 7):
        assert session.run(None, {"features": np.zeros((n, 3, 2, 2), np.float32)})[0].shape == (n, 5)


class Noise(nn.Module):
    """Its outputs differ from call to call, so no export of it can agree with it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float() + torch.rand(1, 3, 4, 4)


class WrongInTheDark(nn.Module):
    """Exported as what it does to bright images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if torch.compiler.is_exporting() else torch.where(x == 0, 1.0, x)


def test_every_image_is_checked_not_the_first_alone(tmp_path: Path) -> None:
    bright, dark = np.ones((1, 3, 4, 4), np.float32), np.zeros((1, 3, 4, 4), np.float32)
    arguments = {"input_name": "images", "output_name": "features"}
    export_module(WrongInTheDark(), torch.from_numpy(bright), tmp_path / "bright.onnx", **arguments)
    with pytest.raises(NegativeResult, match="differs from torch"):
        export_module(
            WrongInTheDark(),
            torch.from_numpy(bright),
            tmp_path / "dark.onnx",
            **arguments,
            checks=[[bright], [dark]],
        )
    assert [file.name for file in tmp_path.iterdir()] == ["bright.onnx"]


def test_without_noise_and_payload_the_file_is_that_of_the_network_alone(
    exported: Path, tmp_path: Path
) -> None:
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    network = small_encoder().graph_module
    export_module(network, image, tmp_path / "x.onnx", input_name="images", output_name="features")
    assert (tmp_path / "x.onnx").read_bytes() == exported.read_bytes()


def test_a_graph_that_disagrees_with_torch_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(NegativeResult, match="differs from torch"):
        export_module(
            Noise(), torch.zeros(1, 3, 4, 4), tmp_path / "x.onnx", input_name="images", output_name="features"
        )
    assert list(tmp_path.iterdir()) == []
