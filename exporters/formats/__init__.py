"""The same encoder in other containers, each checked against ``encoder.onnx`` before it ships."""

from .formats import FORMATS, check_formats, converters, write_formats
from .source import Source

__all__ = ["FORMATS", "Source", "check_formats", "converters", "write_formats"]
