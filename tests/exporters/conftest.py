"""A small exported encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import export


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
