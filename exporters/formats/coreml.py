"""Core ML: an ML Program in a package, zipped."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

from ...errors import PrivynetError
from .source import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...encoders import Encoder

_MODEL = "encoder.mlpackage.zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_PLAIN_FILE = 0o100644 << 16


def write_coreml(source: Source, folder: Path) -> None:
    """Write ``encoder.mlpackage.zip``: ``images`` is an RGB image, the output float32, noise as in ONNX.

    Core ML has no uint8 tensors: a payload's bytes come as float32 numbers. Nothing here can run it. Raises
    ``PrivynetError`` where the network cannot be converted.
    """
    import coremltools
    import numpy as np
    import torch

    encoder = source.encoder
    size, payload = encoder.input_size, encoder.payload
    example = [torch.zeros(1, 3, size, size)]
    inputs: list[Any] = [
        coremltools.ImageType("images", shape=(1, 3, size, size), color_layout=coremltools.colorlayout.RGB)
    ]
    if source.noise is not None:
        example.append(torch.zeros(1, *encoder.feature_shape))
        inputs.append(coremltools.TensorType("noise", shape=(1, *encoder.feature_shape), dtype=np.float32))
    try:
        model = coremltools.convert(
            torch.export.export(_of_planes(encoder), tuple(example)).run_decompositions({}),
            inputs=inputs,
            outputs=[coremltools.TensorType(payload.output_name, dtype=np.float32)],
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS16,
            skip_model_load=True,
        )
        with TemporaryDirectory() as unpacked:
            package = Path(unpacked) / "encoder.mlpackage"
            model.save(str(package))
            _pack(package, folder / _MODEL)
    except Exception as error:  # The converter has no type of its own for what it cannot do.
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise PrivynetError(f"the network cannot be converted for Core ML: {first[0]}") from error


def _of_planes(encoder: Encoder) -> nn.Module:
    """The encoder of float32 planes (1, 3, H, H) of 0 to 255, with a float32 output."""
    import torch
    from torch import nn

    class OfPlanes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, planes: Tensor, noise: Tensor | None = None) -> Tensor:
            sent: Tensor = self.encoder(planes.permute(0, 2, 3, 1), noise)
            return sent.to(torch.float32)

    return OfPlanes().eval()


def _pack(package: Path, path: Path) -> None:
    """A package as a zip whose bytes follow from the model: fixed order, dates and identifiers."""
    from coremltools.proto import Model_pb2

    program = package / "Data/com.apple.CoreML/model.mlmodel"
    model = Model_pb2.Model.FromString(program.read_bytes())
    program.write_bytes(model.SerializeToString(deterministic=True))
    manifest = package / "Manifest.json"
    text = manifest.read_text()
    # Drawn anew for each package; what they name says as well which is which.
    for identifier, entry in json.loads(text)["itemInfoEntries"].items():
        text = text.replace(identifier, str(uuid5(NAMESPACE_URL, entry["path"])).upper())
    manifest.write_text(json.dumps(json.loads(text), indent=4, sort_keys=True) + "\n")
    # Beside them lies what helps to debug the converter.
    files = [manifest, *(file for file in sorted((package / "Data").rglob("*")) if file.is_file())]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            member = zipfile.ZipInfo(file.relative_to(package.parent).as_posix(), _EPOCH)
            member.external_attr = _PLAIN_FILE
            archive.writestr(member, file.read_bytes())
