"""Encoders that tests export, and a C++ compiler for those marked ``cpp``, which are left out without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from privynet.encoders import Encoder, Payload, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import export

from . import onnxruntime_headers


@pytest.fixture(scope="session")
def plain_encoder() -> Encoder:
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    return make_encoder(splitter, cut="blocks.4.2", channels=range(0, 60, 4), salt="0" * 32)


@pytest.fixture(scope="session")
def noisy_encoder(plain_encoder: Encoder) -> Encoder:
    """With noise, and values of 4 bits."""
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    noisy = plain_encoder.sending(noise_std=0.4)
    features = noisy.encode(images, generator=np.random.default_rng(7))
    return noisy.sending(payload=Payload.fit(features, 4))


@pytest.fixture(scope="session")
def small_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of an encoder of the bundled backbone."""
    path = tmp_path_factory.mktemp("small-spec") / "encoder.json"
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    make_encoder(splitter, cut="blocks.2.2", channels=range(0, 24, 3)).spec.write(path)
    return path


@pytest.fixture(scope="session")
def small(small_spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its artifact, a folder that tests only read."""
    out = tmp_path_factory.mktemp("small") / "artifact"
    export(small_spec, out=out)
    return out


@pytest.fixture(scope="session")
def onnxruntime_include() -> Path:
    """The folder of ONNX Runtime's C++ headers."""
    return onnxruntime_headers.headers()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not onnxruntime_headers.missing_programs():
        return
    deselected = [item for item in items if item.get_closest_marker("cpp")]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not item.get_closest_marker("cpp")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = onnxruntime_headers.missing_programs()
    if missing:
        terminalreporter.write_line(f"tests marked cpp were left out: without {', '.join(missing)}")
