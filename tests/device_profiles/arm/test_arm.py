"""What ships runs on a 64-bit Arm processor and sends what it sends here: emulated, so never a timing."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from privynet.artifacts import Artifact, file_digest
from privynet.device_profiles import measuring, open_target, replay
from privynet.device_profiles.measuring import SessionResult, run_session
from privynet.encoders import Encoder, Payload, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import PrivynetError
from privynet.exporters import export, write_onnx
from privynet.exporters.agreement import INT8_NOISE, compare
from privynet.exporters.int8 import in_int8

pytestmark = pytest.mark.arm

AGENT = Path(measuring.__file__).with_name("agent.py")
REPLAY = Path(__file__).with_name("replay.py")
PATIENCE_S = 120.0
INT8 = ("bundled", "torchvision:resnet18,weights=random")
"""The second adds branches. Where grids let sums fall on the edge between two steps, a third of its outputs
differ; see ``exporters/int8/sums.py``."""


@dataclass(frozen=True)
class Shipped:
    """Exported artifacts, and outputs of both, here and on Arm, by name."""

    plain: Path
    payload: Path
    here: dict[str, NDArray[Any]]
    arm: dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory, arm_python: Path) -> Shipped:
    folder = tmp_path_factory.mktemp("shipped")
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    encoder = make_encoder(splitter, cut="blocks.4.2", channels=range(0, 60, 3))
    plain = exported(encoder, folder / "plain")
    noisy = make_encoder(splitter, cut="blocks.2.2", channels=range(4)).sending(noise_std=0.4)
    grid = Payload.fit(noisy.encode(images(8), generator=np.random.default_rng(7)), 8)
    payload = exported(noisy.sending(payload=grid), folder / "payload")
    random = folder / "random.npz"
    np.savez(random, images=images(8))
    runs = {
        "plain": (plain / "encoder.onnx", random),
        "plain self-test": (plain / "encoder.onnx", plain / "selftest.npz"),
        "payload self-test": (payload / "encoder.onnx", payload / "selftest.npz"),
    }
    return Shipped(
        plain, payload, replayed(sys.executable, folder, runs), replayed(str(arm_python), folder, runs)
    )


def exported(encoder: Encoder, folder: Path) -> Path:
    folder.mkdir()
    encoder.spec.write(folder / "encoder.json")
    export(folder / "encoder.json", out=folder / "artifact")
    return folder / "artifact"


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def replayed(python: str, folder: Path, runs: dict[str, tuple[Path, Path]]) -> dict[str, NDArray[Any]]:
    outputs = {name: folder / f"{name}.npy" for name in runs}
    files = [str(file) for name, (model, inputs) in runs.items() for file in (model, inputs, outputs[name])]
    call(python, "-I", str(REPLAY), *files)
    return {name: np.load(output) for name, output in outputs.items()}


def call(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def session(*python: str, model: Path) -> SessionResult:
    """One session of the shipped agent, as short as can be."""
    brief = ("--warmup-seconds", "0", "--min-runs", "3", "--min-seconds", "0")
    command = [*python, str(AGENT), "--model", str(model), *brief]
    with open_target("local") as target:
        return run_session(
            command, target=target, silence_seconds=PATIENCE_S, on_running=lambda runs, seconds: None
        )


def test_the_agent_measures_an_exported_encoder(arm_python: Path, shipped: Shipped) -> None:
    model = shipped.plain / "encoder.onnx"
    result = session(str(arm_python), "-I", model=model)
    assert result.machine["architecture"] == "aarch64"
    assert result.machine["onnxruntime"] == onnxruntime.__version__
    assert len(result.latencies_ms) == 3 and min(result.latencies_ms) > 0
    assert result.model_sha256 == file_digest(model)
    assert result.model_sha256 == Artifact.open(shipped.plain).manifest.files["encoder.onnx"].sha256


def test_a_float32_encoder_sends_what_it_sends_here_but_for_the_last_bits(shipped: Shipped) -> None:
    here, arm = shipped.here["plain"], shipped.arm["plain"]
    assert (arm.shape, arm.dtype) == ((8, 20, 8, 8), np.float32)
    np.testing.assert_array_equal(here, Artifact.open(shipped.plain).session().send(images(8)))
    # Measured: 3e-7 of the largest value.
    np.testing.assert_allclose(arm, here, rtol=0, atol=1e-4 * np.abs(here).max())


def sent_by(python: str, model: Path, images: NDArray[np.uint8]) -> NDArray[Any]:
    with open_target("local", python=python) as target:
        return replay(model, {"images": images}, target=target).output


@pytest.mark.parametrize("backbone", INT8)
def test_an_int8_encoder_sends_what_it_sends_here(arm_python: Path, tmp_path: Path, backbone: str) -> None:
    splitter = Splitter(load_backbone(parse_backbone(backbone)), 32)
    cut = splitter.cuts[len(splitter.cuts) // 2]
    encoder, _ = in_int8(make_encoder(splitter, cut=cut.name), images(16))
    write_onnx(encoder, tmp_path / "encoder.onnx")
    here, arm = (
        sent_by(python, tmp_path / "encoder.onnx", images(8)) for python in (sys.executable, str(arm_python))
    )
    exact = encoder.in_int8(None).encode(images(8))
    assert 20 < len(np.unique(arm)) <= 256
    assert np.abs(arm - exact).mean() < 0.3 * np.abs(exact).mean()
    # Measured: none. On other x86 processors a value may fall on the other side of an edge.
    assert compare(arm, here, allowed_noise=INT8_NOISE).holds and np.mean(arm != here) <= 0.01


@pytest.mark.parametrize("kind", ("plain", "payload"))
def test_the_artifact_s_self_test_passes(shipped: Shipped, kind: str) -> None:
    artifact: Path = getattr(shipped, kind)
    got = shipped.arm[f"{kind} self-test"]
    with np.load(artifact / "selftest.npz") as archive:
        if kind == "plain":
            np.testing.assert_allclose(got, archive["features"], rtol=0, atol=float(archive["tolerance"]))
        else:
            wanted = archive["payload"]
            assert got.dtype == wanted.dtype == np.uint8
            off = np.abs(got.astype(int) - wanted.astype(int))
            assert off.max() <= 1 and np.mean(off > 0) <= 0.01


def test_the_readme_s_code_runs_there(arm_python: Path, shipped: Shipped) -> None:
    """With noise and a payload of 8 bits: what is drawn, sent and read."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", (shipped.payload / "README.md").read_text(), re.S))
    manifest = Artifact.open(shipped.payload).manifest
    shown = "import platform; print(platform.machine(), len(sent), features.shape)"
    said = call(str(arm_python), "-I", "-c", f"{code}\n{shown}", cwd=shipped.payload)
    assert said == f"aarch64 {manifest.costs['payload_bytes']} {(1, *manifest.feature_shape)}\n"


@pytest.mark.parametrize("lacking", ("numpy", "onnxruntime"))
def test_what_the_target_s_python_lacks_is_named_in_one_line(
    arm_python: Path, tmp_path: Path, lacking: str
) -> None:
    # Without Debian's folder of packages; then with numpy alone.
    packages = arm_python.parent / "usr/lib/python3/dist-packages"
    if lacking == "onnxruntime":
        for name in ("numpy", "numpy.libs"):
            (tmp_path / name).symlink_to(packages / name)
    with pytest.raises(PrivynetError, match=lacking) as caught:
        session("env", f"PYTHONPATH={tmp_path}", str(arm_python), "-S", model=tmp_path / "any.onnx")
    assert "\n" not in str(caught.value)
