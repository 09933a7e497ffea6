"""A comparison on each kind of target: both models go there, and nothing of them stays."""

from __future__ import annotations

import shutil
from pathlib import Path

from privynet.device_profiles import compare

from .place import Place


def test_two_models_are_compared(place: Place, model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(model, tmp_path / "copy.onnx"))
    result = compare(model, copy, on=place.url, sessions=1, min_seconds=0.2)
    low, high = result["ratio"]["ci95"]
    assert low <= result["ratio"]["value"] <= high
    assert result["on"] == place.url
    assert result["model_sha256"] == result["other"]["model_sha256"]
    assert place.left() == [] and place.running() == []
