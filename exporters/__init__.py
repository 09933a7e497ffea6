"""Exporters: any module to ONNX, an encoder spec to the artifact that ships, and the checks of both.

Knows no head and no attack: heads go through ``export_module`` like anything else.
"""

from __future__ import annotations

from .export import export, write_onnx
from .onnx_file import export_module
from .verify import verify

__all__ = ["export", "export_module", "verify", "write_onnx"]
