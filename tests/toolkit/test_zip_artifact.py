"""An artifact in a zip, wherever one in a folder is taken."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privynet.artifacts import file_digest
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.toolkit.flow import _model_digest
from privynet.toolkit.subjects import default_audit_folder, model_of, open_subject, read_spec

from .conftest import Outcome

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``encoder.json``, exported to ``plain`` and to ``packed.zip``."""
    from privynet.exporters import export

    folder = tmp_path_factory.mktemp("zip-artifact")
    splitter = Splitter(load_backbone(parse_backbone("bundled")), 32)
    make_encoder(splitter, cut="blocks.2.2", channels=(1, 4, 9)).spec.write(folder / "encoder.json")
    for out in ("plain", "packed.zip"):
        export(folder / "encoder.json", out=folder / out)
    return folder


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_its_model_is_there_as_long_as_it_is_used(made: Path, nothing_left: Path) -> None:
    with model_of(made / "packed.zip") as file:
        assert file_digest(file) == file_digest(made / "plain" / "encoder.onnx")
    assert not file.exists() and list(nothing_left.iterdir()) == []
    with model_of(made / "plain" / "encoder.onnx") as file:
        assert file == made / "plain" / "encoder.onnx"


def test_it_is_read_and_audited_as_the_folder_is(made: Path) -> None:
    packed, plain = made / "packed.zip", made / "plain"
    assert read_spec(packed) == read_spec(plain)
    assert _model_digest(packed) == _model_digest(plain) == file_digest(plain / "encoder.onnx")
    assert default_audit_folder(packed) == made / "packed-audit"
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    one, two = (open_subject(path).encoder.encode(images) for path in (packed, plain))
    np.testing.assert_array_equal(one, two)


def test_it_is_encoded_with_and_verified(made: Path, privynet: Run, tmp_path: Path) -> None:
    data = ("--data", "digits", "--split", "test", "--max-images", "20", "--json")
    shards = [
        privynet("encode", made / name, *data, "--out", tmp_path / name) for name in ("packed.zip", "plain")
    ]
    assert shards[0].json["inputs"] == shards[1].json["inputs"] and shards[0].json["n"] == 20
    assert privynet("verify", made / "packed.zip").code == 0


def test_the_verb_writes_one_and_keeps_one_that_exists(made: Path, privynet: Run, tmp_path: Path) -> None:
    out = tmp_path / "new.zip"
    assert privynet("export", made / "encoder.json", "--out", out).code == 0
    assert out.read_bytes() == (made / "packed.zip").read_bytes()
    refused = privynet("export", made / "encoder.json", "--out", out)
    assert refused.code == 2 and f"{out} exists" in refused.error
    assert privynet("export", made / "encoder.json", "--out", out, "--force").code == 0
    other = tmp_path / "mine.zip"
    other.write_bytes(b"mine")
    refused = privynet("export", made / "encoder.json", "--out", other, "--force")
    assert refused.code == 2 and "was not written by privynet" in refused.error
    assert other.read_bytes() == b"mine"


def test_a_zip_is_no_device_s_model_when_it_is_none(privynet: Run, tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")
    assert privynet("bench", tmp_path / "cut.zip").code == 3
    (tmp_path / "text.zip").write_bytes(b"text")
    assert privynet("verify", tmp_path / "text.zip").code == 2
