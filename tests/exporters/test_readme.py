"""The artifact's page for app developers: its code, used as it stands, sends what the self-test says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from privynet.artifacts import Artifact
from privynet.data.resizing import square
from privynet.encoders import Encoder
from privynet.exporters import export
from privynet.exporters.int8 import in_int8


@dataclass(frozen=True)
class Shipped:
    encoder: Encoder
    artifact: Path
    text: str
    """README.md."""

    def code(self, language: str) -> str:
        """The first block of a language."""
        found = re.search(rf"```{language}\n(.*?)```", self.text, re.S)
        assert found is not None
        return found[1]

    def selftest(self) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None, list[bytes]]:
        """Images, noise where there is any, and the bytes that must be sent for each."""
        with np.load(self.artifact / "selftest.npz") as archive:
            rows = dict(archive)
        sent = rows[self.encoder.payload.output_name]
        return rows["images"], rows.get("noise"), [row.tobytes() for row in sent]


@pytest.fixture(scope="module", params=("plain", "noisy", "int8"))
def shipped(
    request: pytest.FixtureRequest,
    plain_encoder: Encoder,
    noisy_encoder: Encoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shipped:
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    encoders = {
        "plain": lambda: plain_encoder,
        "noisy": lambda: noisy_encoder,
        "int8": lambda: in_int8(plain_encoder, images)[0],
    }
    encoder = encoders[request.param]()
    folder = tmp_path_factory.mktemp("shipped")
    encoder.spec.write(folder / "encoder.json")
    export(folder / "encoder.json", out=folder / "artifact")
    return Shipped(encoder, folder / "artifact", (folder / "artifact/README.md").read_text())


def test_the_page_says_what_goes_in_what_comes_out_and_what_stays_secret(shipped: Shipped) -> None:
    encoder, text = shipped.encoder, shipped.text
    assert f"{encoder.payload_bytes} bytes |" in text
    assert "1 x 32 x 32 x 3, RGB" in text
    assert "whoever holds the app's file has them" in text
    assert ("anew for every image" in text) == (encoder.noise_std > 0)
    assert ("Never use it twice" in text) == (encoder.noise_std > 0)
    assert ("Reading the payload" in text) == encoder.payload.quantised
    assert "| NNAPI (Android) | the network:" in text
    assert ("x64quantprecision" in text) == (encoder.spec.int8 is not None)
    assert "were not compiled" in text
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    assert "{{" not in text and "{%" not in text and "\n\n\n" not in prose.replace("\n\n\n\n", "\n")


def test_the_python_code_sends_what_the_self_test_says(
    shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shipped.artifact)
    names: dict[str, Any] = {}
    exec(shipped.code("python"), names)
    assert len(names["sent"]) == shipped.encoder.payload_bytes
    images, noise, wanted = shipped.selftest()
    for row, sent in enumerate(wanted):
        fed = [images[row]] if noise is None else [images[row], noise[row : row + 1]]
        assert names["encode"](*fed) == sent


def test_the_python_code_reports_to_nobody(shipped: Shipped, tmp_path: Path) -> None:
    (tmp_path / "encoder.py").write_text(shipped.code("python"))
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(tmp_path / "encoder.py")]
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(command, cwd=shipped.artifact, env={"HOME": str(home), **paths}, check=True)
    assert list(home.iterdir()) == []


def test_the_python_code_prepares_frames_as_the_data_were(
    shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shipped.artifact)
    names: dict[str, Any] = {}
    exec(shipped.code("python"), names)
    frame = Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    np.testing.assert_array_equal(names["square"](frame), np.asarray(square(frame, 32)))


def test_noise_is_normal_and_never_the_same(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shipped.artifact)
    names: dict[str, Any] = {}
    exec(shipped.code("python"), names)
    assert ("fresh_noise" in names) == (shipped.encoder.noise_std > 0)
    if shipped.encoder.noise_std:
        check_normal(np.stack([names["fresh_noise"]() for _ in range(20)]))


def test_the_receiver_s_code_reads_the_features(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    payload, shape = shipped.encoder.payload, shipped.encoder.feature_shape
    blocks = re.findall(r"```python\n(.*?)```", shipped.text, re.S)
    assert len(blocks) == 1 + payload.quantised
    if payload.quantised:
        sent = Artifact.open(shipped.artifact).session().send(shipped.selftest()[0][:1])
        names: dict[str, Any] = {"np": np, "sent": sent.tobytes()}
        exec(blocks[1], names)
        np.testing.assert_array_equal(names["features"], payload.decode(sent, shape))


MAIN = """
#include "encoder.cpp"
#include <cstdio>
#include <cstring>

template <typename T>
static std::vector<T> Read(size_t count) {
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, stdin) != count) throw std::runtime_error("too short");
  return values;
}

int main(int argc, char** argv) {
  Encoder encoder(argv[1]);
  for (int row = 0; row < std::atoi(argv[2]); ++row) {
    auto pixels = Read<uint8_t>(32 * 32 * 3);
    const auto sent = encoder.Encode(SENT_FOR);
    std::fwrite(sent.data(), 1, sent.size(), stdout);
  }
  const auto large = Read<uint8_t>(90 * 400);
  const auto small = Square(large.data(), 120, 90, 400);
  std::fwrite(small.data(), 1, small.size(), stdout);
  NOISE
}
"""
NOISE = """
  for (int draw = 0; draw < 20; ++draw) {
    const auto noise = FreshNoise();
    std::fwrite(noise.data(), sizeof(float), noise.size(), stdout);
  }
"""


@pytest.mark.cpp
def test_the_cpp_code_compiles_and_sends_what_the_self_test_says(
    shipped: Shipped, onnxruntime_include: Path, tmp_path: Path
) -> None:
    images, noise, wanted = shipped.selftest()
    noisy, count = noise is not None, int(np.prod(shipped.encoder.feature_shape))
    given = f"pixels, Read<float>({count})" if noisy else "pixels"
    program = MAIN.replace("SENT_FOR", given).replace("NOISE", NOISE if noisy else "")
    (tmp_path / "encoder.cpp").write_text(shipped.code("cpp"))
    (tmp_path / "main.cpp").write_text(program)
    compile_with_onnxruntime(tmp_path, onnxruntime_include)

    frame = np.random.default_rng(5).integers(0, 256, (90, 400), dtype=np.uint8)
    fed = b"".join(
        images[row].tobytes() + (b"" if noise is None else noise[row].tobytes()) for row in range(len(images))
    )
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [tmp_path / "main", shipped.artifact / "encoder.onnx", str(len(images))],
        input=fed + frame.tobytes(),
        capture_output=True,
        check=True,
        env={"HOME": str(home)},
    )
    assert list(home.iterdir()) == [], "the library keeps an identifier of the machine, to report with"
    sent = b"".join(wanted)
    assert done.stdout[: len(sent)] == sent
    rest = done.stdout[len(sent) :]
    check_square(np.frombuffer(rest[: 32 * 32 * 3], np.uint8).reshape(32, 32, 3), frame)
    drawn = np.frombuffer(rest[32 * 32 * 3 :], np.float32).reshape(-1, count)
    assert (len(drawn) > 0) == noisy
    if noisy:
        check_normal(drawn)


def compile_with_onnxruntime(folder: Path, include: Path) -> None:
    """``main.cpp`` to ``main``, against the library in the Python package."""
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    command = ["g++", "-std=c++17", "-Wall", "-Werror", "-isystem", str(include), "main.cpp", "-o", "main"]
    linked = ["-L.", "-lonnxruntime", f"-Wl,-rpath,{folder}"]
    subprocess.run([*command, *linked], cwd=folder, check=True)


def check_square(got: NDArray[np.uint8], frame: NDArray[np.uint8]) -> None:
    """The mean over the pixels that fall into each, of the centre of 120 x 90 with rows 400 bytes apart."""
    centre = frame[:, :360].reshape(90, 120, 3)[:, 15:105].astype(np.float64)
    edges = np.arange(33) * 90 // 32
    rows = np.stack([centre[a:b].mean(0) for a, b in pairwise(edges)])
    wanted = np.stack([rows[:, a:b].mean(1) for a, b in pairwise(edges)], 1)
    assert np.abs(got - wanted).max() <= 0.51


def check_normal(drawn: NDArray[np.float32]) -> None:
    assert abs(drawn.std() - 1) < 0.02 and abs(drawn.mean()) < 0.03
    assert len({noise.tobytes() for noise in drawn}) == len(drawn)
