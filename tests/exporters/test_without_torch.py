"""``verify --without-torch`` on a machine that has little installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from privynet.exporters import export

FORBIDDEN = (
    "cryptography",
    "jinja2",
    "lightning",
    "onnxscript",
    "optuna",
    "PIL",
    "psutil",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "timm",
    "torch",
    "torchmetrics",
    "torchvision",
    "typer",
)


@pytest.fixture
def poor(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing any of ``FORBIDDEN`` fails, in processes that are started too."""
    for name in FORBIDDEN:
        (tmp_path / "poor" / name).mkdir(parents=True)
        text = f"raise ImportError('{name} is not here')\n"
        (tmp_path / "poor" / name / "__init__.py").write_text(text)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "poor")}


def run(script: str, artifact: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import json, sys; from pathlib import Path; {script}", str(artifact)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


VERIFY = (
    "from privynet.exporters import verify;"
    "print(json.dumps(verify(Path(sys.argv[1]), without_torch={without_torch})))"
)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_it_needs_no_more_than_onnxruntime_onnx_numpy_and_pydantic(
    small_spec: Path, tmp_path: Path, poor: dict[str, str], suffix: str
) -> None:
    artifact = tmp_path / f"artifact{suffix}"
    export(small_spec, out=artifact)
    done = run(VERIFY.format(without_torch=True), artifact, poor)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["findings"], found["parity"]) == ([], "not_run")
    # So it is the environment that does without, not the check.
    done = run(VERIFY.format(without_torch=False), artifact, poor)
    assert "torch is not here" in done.stderr


def test_the_front_door_gives_all_it_names() -> None:
    import privynet.encoders as room

    assert [name for name in room.__all__ if not hasattr(room, name)] == []
    assert room.Encoder.__module__ == "privynet.encoders.encoder"
    with pytest.raises(AttributeError, match="no attribute nothing"):
        _ = room.nothing
