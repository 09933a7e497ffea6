"""The size of the shipped file, estimated on shapes alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import write_onnx
from privynet.exporters.storage import estimate_storage_kb


@pytest.mark.parametrize(
    "text", ("bundled", "timm:mobilenetv2_100,pad_type=same", "torchvision:mobilenet_v3_small")
)
def test_the_estimated_file_size_is_never_below_the_file(text: str, tmp_path: Path) -> None:
    splitter = Splitter(load_backbone(parse_backbone(text, weights="random")), 64)
    cut = splitter.cuts[len(splitter.cuts) // 2]
    encoder = make_encoder(splitter, cut=cut.name, channels=range(max(1, cut.channels // 2)))
    size_kb = write_onnx(encoder, tmp_path / "encoder.onnx")["bytes"] / 1024
    assert size_kb <= estimate_storage_kb(encoder.costs) <= 1.25 * size_kb + 4
