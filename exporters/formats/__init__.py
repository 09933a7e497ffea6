"""The same encoder in other containers, each checked against ``encoder.onnx`` before it ships."""

from .formats import FORMATS, NOT_COMPARED, check_formats, converters, write_formats
from .source import Source

__all__ = ["FORMATS", "NOT_COMPARED", "Source", "check_formats", "converters", "write_formats"]
