"""ExecuTorch, LiteRT and Core ML, each where its converter is installed (``make test-extras``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from privynet.artifacts import Artifact
from privynet.encoders import Encoder
from privynet.exporters import export, verify
from privynet.exporters.formats import FORMATS

from .traces import traces_of_this_machine

MEMBERS = {"executorch": "encoder.pte", "litert": "encoder.tflite", "coreml": "encoder.mlpackage.zip"}
CONVERTERS = [pytest.param(name, marks=pytest.mark.converter(name)) for name in MEMBERS]


@pytest.fixture(scope="module", params=("plain", "noisy"))
def encoder(request: pytest.FixtureRequest, plain_encoder: Encoder, noisy_encoder: Encoder) -> Encoder:
    return plain_encoder if request.param == "plain" else noisy_encoder


@pytest.fixture(scope="module")
def spec(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "encoder.json"
    encoder.spec.write(path)
    return path


@pytest.fixture(scope="module")
def artifacts(spec: Path) -> dict[str, Path]:
    """Artifacts by format, made when they are first asked for."""
    return {}


def converted(name: str, spec: Path, artifacts: dict[str, Path]) -> Path:
    if name not in artifacts:
        export(spec, out=spec.parent / name, formats=[name])
        artifacts[name] = spec.parent / name
    return artifacts[name]


@pytest.mark.parametrize("name", CONVERTERS)
def test_it_sends_what_onnx_does_or_says_that_it_was_not_run(
    name: str, encoder: Encoder, spec: Path, artifacts: dict[str, Path]
) -> None:
    artifact = converted(name, spec, artifacts)
    manifest = Artifact.open(artifact).manifest
    assert MEMBERS[name] in manifest.files and manifest.formats == tuple(sorted(("onnx", name)))
    assert FORMATS[name].packages[0] in manifest.tools
    parities: Any = manifest.parity["formats"]
    if name == "coreml":
        assert parities == {"coreml": "not_run"}
    else:
        step = encoder.payload.scale if encoder.payload.quantised else 1e-4
        assert 0 <= parities[name]["max_abs_error"] <= step
        assert parities[name]["max_abs_output"] > 0.1
    (finding,) = verify(artifact)["findings"]
    assert (finding["severity"], finding["file"]) == ("warning", MEMBERS[name])
    assert f"`{MEMBERS[name]}`" in (artifact / "README.md").read_text()


@pytest.mark.parametrize("name", CONVERTERS)
def test_another_process_in_another_folder_writes_the_same_bytes(
    name: str, spec: Path, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    artifact = converted(name, spec, artifacts)
    code = (
        "import sys; from pathlib import Path; from privynet.exporters import export;"
        "export(Path(sys.argv[1]), out=Path('again'), formats=[sys.argv[2]])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, str(spec), name], cwd=tmp_path, env=environment, check=True)
    for member in artifact.iterdir():
        assert (tmp_path / "again" / member.name).read_bytes() == member.read_bytes(), member.name


@pytest.mark.parametrize("name", CONVERTERS)
def test_nothing_in_it_tells_of_the_machine(name: str, spec: Path, artifacts: dict[str, Path]) -> None:
    artifact = converted(name, spec, artifacts)
    assert traces_of_this_machine((artifact / MEMBERS[name]).read_bytes()) == []


@pytest.mark.converter("coreml")
def test_the_coreml_program_takes_an_image_and_is_whole(
    encoder: Encoder, spec: Path, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    import coremltools

    with zipfile.ZipFile(converted("coreml", spec, artifacts) / MEMBERS["coreml"]) as archive:
        assert all(one.compress_type == zipfile.ZIP_STORED for one in archive.infolist())
        archive.extractall(tmp_path)
    listed = json.loads((tmp_path / "encoder.mlpackage/Manifest.json").read_text())
    assert listed["rootModelIdentifier"] in listed["itemInfoEntries"]
    model = coremltools.models.MLModel(str(tmp_path / "encoder.mlpackage"), skip_model_load=True)
    description = model.get_spec().description
    image = description.input[0]
    assert (image.name, image.type.imageType.width, image.type.imageType.height) == ("images", 32, 32)
    assert [one.name for one in description.input] == ["images", "noise"][: 1 + (encoder.noise_std > 0)]
    (output,) = description.output
    assert output.name == encoder.payload.output_name
    shape = (1, *encoder.payload.sent_shape(encoder.feature_shape))
    assert tuple(output.type.multiArrayType.shape) == shape
