"""The versions of what makes an artifact, on which its bytes depend."""

from __future__ import annotations

from importlib.metadata import version

_TOOLS = ("onnx", "onnxruntime", "onnxscript", "torch")


def tool_versions() -> dict[str, str]:
    """Version by name, without the part that says for which machine a tool was built."""
    return {name: version(name).split("+")[0] for name in _TOOLS}
