"""Encoders that tests export. Those marked ``cpp`` or ``converter`` are left out without what they need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from privynet.encoders import Encoder, Payload, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import export
from privynet.exporters.formats import FORMATS

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
    compiles, missing = not onnxruntime_headers.missing_programs(), missing_converters()

    def left_out(item: pytest.Item) -> bool:
        wanted = item.get_closest_marker("converter")
        without_compiler = not compiles and item.get_closest_marker("cpp") is not None
        return without_compiler or (wanted is not None and wanted.args[0] in missing)

    deselected = [item for item in items if left_out(item)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if not left_out(item)]


def missing_converters() -> list[str]:
    """The formats whose converters are not installed here."""
    return [name for name, form in FORMATS.items() if not form.installed]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    programs, converters = onnxruntime_headers.missing_programs(), missing_converters()
    if programs:
        terminalreporter.write_line(f"tests marked cpp were left out: without {', '.join(programs)}")
    if converters:
        terminalreporter.write_line(f"tests of converters were left out: without {', '.join(converters)}")
