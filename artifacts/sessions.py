"""Encoders and heads as they ship, run by ONNX Runtime on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, PrivynetError
from .files import file_digest

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_HEAD_BATCH = 256


@dataclass(frozen=True)
class GraphTensor:
    """A graph's input or output; a dimension that is not fixed is ``None``."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        shape = ", ".join("n" if dimension is None else str(dimension) for dimension in self.shape)
        return f"{self.name} {self.dtype} ({shape})"


@dataclass(frozen=True, eq=False)
class OrtEncoder:
    """An exported encoder with an ``Encoder``'s attributes."""

    digest: str
    """The encoder spec's digest, or the file's where the spec is not known."""
    input: GraphTensor
    output: GraphTensor
    _session: InferenceSession

    @classmethod
    def open(cls, path: Path, *, digest: str | None = None, threads: int = 1) -> OrtEncoder:
        """Load ``path``: one uint8 (1, H, H, 3) input, one float32 (1, C, h, w) output.

        Raises ``InputError`` when it cannot be read, is not ONNX, or has other inputs or outputs.
        """
        session, [source], [target] = _load(path, threads)
        fixed = None not in source.shape and None not in target.shape
        if not (
            fixed
            and source.dtype == "uint8"
            and len(source.shape) == 4
            and source.shape[0] == 1
            and source.shape[1] == source.shape[2]
            and source.shape[3] == 3
            and target.dtype == "float32"
            and len(target.shape) == 4
            and target.shape[0] == 1
        ):
            raise InputError(
                f"{path} is not an encoder: it maps {source} to {target}",
                hint="an encoder maps uint8 (1, H, H, 3) to float32 (1, C, h, w)",
            )
        return cls(digest or file_digest(path), source, target, session)

    @property
    def input_size(self) -> int:
        """Height and width of the input, in pixels."""
        return _fixed(self.input.shape[1])

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the features of one image."""
        _, channels, height, width = self.output.shape
        return _fixed(channels), _fixed(height), _fixed(width)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features (n, C, h, w), float32, of uint8 RGB images (n, H, H, 3), one image at a time.

        Raises ``ValueError`` for images of another shape or dtype.
        """
        expected = (self.input_size, self.input_size, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(f"expected uint8 images (n, {expected}), not {images.dtype} {images.shape}")
        features = np.empty((len(images), *self.feature_shape), np.float32)
        for row, image in zip(features, images, strict=True):
            row[:] = _run(self._session, self.output.name, {self.input.name: image[None]})[0]
        return features


@dataclass(frozen=True, eq=False)
class OrtHead:
    """An exported head."""

    digest: str
    """The file's SHA-256."""
    input: GraphTensor
    output: GraphTensor
    _session: InferenceSession

    @classmethod
    def open(cls, path: Path, *, threads: int = 1) -> OrtHead:
        """Load ``path``: one float32 (n, C, h, w) input, one float32 (n, classes) output, n free or 1.

        Raises ``InputError`` when it cannot be read, is not ONNX, or has other inputs or outputs.
        """
        session, [source], [target] = _load(path, threads)
        if not (
            source.dtype == target.dtype == "float32"
            and (len(source.shape), len(target.shape)) == (4, 2)
            and None not in (*source.shape[1:], target.shape[1])
            and source.shape[0] in (None, 1)
        ):
            raise InputError(
                f"{path} is not a head: it maps {source} to {target}",
                hint="a head maps float32 (n, C, h, w) to float32 (n, classes)",
            )
        return cls(file_digest(path), source, target, session)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of the features of one image."""
        _, channels, height, width = self.input.shape
        return _fixed(channels), _fixed(height), _fixed(width)

    @property
    def classes(self) -> int:
        return _fixed(self.output.shape[1])

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits (n, classes), float32, of float32 features (n, C, h, w).

        Raises ``ValueError`` for features of another shape or dtype.
        """
        if features.dtype != np.float32 or features.ndim != 4 or features.shape[1:] != self.feature_shape:
            raise ValueError(
                f"expected float32 features (n, {self.feature_shape}), not {features.dtype} {features.shape}"
            )
        logits = np.empty((len(features), self.classes), np.float32)
        step = self.input.shape[0] or _HEAD_BATCH
        for start in range(0, len(features), step):
            batch = np.ascontiguousarray(features[start : start + step])
            logits[start : start + step] = _run(self._session, self.output.name, {self.input.name: batch})
        return logits


def _load(path: Path, threads: int) -> tuple[InferenceSession, list[GraphTensor], list[GraphTensor]]:
    """A session with its only input and its only output."""
    import onnxruntime as ort

    if not path.is_file():
        raise InputError(f"ONNX file {path} does not exist", hint="check the path")
    if threads < 1:
        raise InputError(f"{threads} threads are too few", hint="allowed: 1 or more")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(
            str(path),
            options,
            providers=["CPUExecutionProvider"],
            # It would print to standard output, and has nothing to fall back to.
            enable_fallback=0,
        )
        inputs, outputs = _tensors(session.get_inputs()), _tensors(session.get_outputs())
    except _ort_errors() as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be loaded by ONNX Runtime: {reason[:200]}",
            hint="give an ONNX file that privynet wrote",
        ) from error
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs",
            hint="expected one input and one output",
        )
    return session, inputs, outputs


def _run(session: InferenceSession, output: str, feed: dict[str, NDArray[Any]]) -> NDArray[Any]:
    try:
        result: NDArray[Any] = session.run([output], feed)[0]
    except _ort_errors() as error:
        reason = " ".join(str(error).split())
        raise PrivynetError(f"ONNX Runtime failed: {reason[:200]}", hint="check the model file") from error
    return result


def _ort_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; its own types share no base but ``Exception``."""
    from onnxruntime.capi import onnxruntime_pybind11_state as states

    return (
        states.Fail,
        states.InvalidArgument,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.NoModel,
        states.NoSuchFile,
        states.NotImplemented,
        states.RuntimeException,
        RuntimeError,
        # A damaged name that is no UTF-8.
        UnicodeDecodeError,
    )


def _tensors(arguments: list[Any]) -> list[GraphTensor]:
    dtypes = {"tensor(float)": "float32"}
    return [
        GraphTensor(
            argument.name,
            tuple(dimension if isinstance(dimension, int) else None for dimension in argument.shape),
            dtypes.get(argument.type, argument.type.removeprefix("tensor(").removesuffix(")")),
        )
        for argument in arguments
    ]


def _fixed(dimension: int | None) -> int:
    assert dimension is not None, "checked when the graph was opened"
    return dimension
