"""The encoder's own tensors, for those who build on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..artifacts import replace_file

if TYPE_CHECKING:
    from ..encoders import Encoder


def write_weights(encoder: Encoder, path: Path) -> None:
    """Write the encoder's parameters and buffers as safetensors, in the names of its ``graph_module``."""
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in sorted(encoder.graph_module.state_dict().items())
    }
    with replace_file(path) as temporary:
        save_file(tensors, temporary)
