"""What an artifact says about itself: its members with their digests, what the encoder takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from .documents import canonical
from .payload import Payload

ARTIFACT_VERSION = 3
"""The version of the artifact layout that this privynet writes, and the only one it reads."""

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
"""Over the manifest's bytes, and so not among its ``files``."""

Format = Literal["coreml", "executorch", "litert", "onnx", "ort"]
Runtime = Literal["coreml", "cpu", "nnapi", "qnn", "xnnpack"]

_OF_FORMATS: dict[Format, tuple[str, ...]] = {
    "coreml": ("encoder.mlpackage.zip",),
    "executorch": ("encoder.pte",),
    "litert": ("encoder.tflite",),
    "onnx": ("encoder.onnx",),
    "ort": ("encoder.ort", "required_operators.config"),
}
_ALWAYS = ("README.md", "encoder.json", "encoder.onnx", "selftest.npz")
_WEIGHTS = "encoder.safetensors"

# More than any real member needs; compared before a member is read, so that a hostile one cannot fill the
# memory.
MEMBER_LIMITS = {
    "README.md": 2**20,
    "encoder.json": 2**20,
    "encoder.mlpackage.zip": 2**31,
    "encoder.onnx": 2**31,
    "encoder.ort": 2**31,
    "encoder.pte": 2**31,
    "encoder.safetensors": 2**31,
    "encoder.tflite": 2**31,
    MANIFEST: 2**20,
    SIGNATURE: 2**10,
    "required_operators.config": 2**20,
    "selftest.npz": 2**28,
}
"""Every member that an artifact can have, with the most bytes that it may have."""

_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""32 bytes: a SHA-256, a key."""
_Dimension = Annotated[int, Field(ge=1)]
_Count = Annotated[int, Field(ge=0)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds what cannot be printed")
    return text


_Name = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
"""A name that is shown as it is: no escape of a terminal."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TensorInfo(_Model):
    """A graph's input or output for one image, as ONNX names it."""

    name: _Name
    shape: Annotated[tuple[_Dimension, ...], Field(strict=False)]
    dtype: _Name


class FileInfo(_Model):
    """A member of the artifact."""

    sha256: _Hex
    bytes: _Count


class RuntimeSupport(_Model):
    """What one runtime takes of the graph; ONNX Runtime's CPU provider computes the rest."""

    supported: bool
    """Whether the runtime is of use for it, all that it would have to take being among what it takes."""
    nodes: _Count
    """How many of the graph's nodes it takes."""
    unsupported: Annotated[tuple[_Name, ...], Field(strict=False)]
    """The names of those that are left to the CPU provider, in the graph's order."""
    partitions: _Count | None
    """In how many pieces the runtime gets what it takes; null where it takes nodes one by one."""


class Manifest(_Model):
    """What an artifact says about itself. ``digest`` covers all the rest, and so every member."""

    schema_version: Literal[1]
    kind: Literal["artifact"]
    tool_version: _Name
    artifact_version: Literal[3]
    tools: dict[_Name, _Name]
    """The versions of what made it, by name."""
    spec_digest: _Hex
    precision: Literal["fp32", "int8"]
    int8: dict[str, JsonValue] | None
    """How it was quantised; null for fp32."""
    input: TensorInfo
    """The image."""
    noise: TensorInfo | None
    """Standard normal noise; null where none is added."""
    output: TensorInfo
    """What leaves the device."""
    feature_shape: Annotated[tuple[_Dimension, _Dimension, _Dimension], Field(strict=False)]
    """(C, h, w) of the features in the output."""
    payload: Payload
    noise_std: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    opset: Annotated[int, Field(ge=1)]
    formats: Annotated[tuple[Format, ...], Field(strict=False)]
    """What the encoder is there as, sorted; the same encoder in each."""
    runtimes: dict[Runtime, RuntimeSupport]
    files: dict[str, FileInfo]
    signer: _Hex | None
    """The Ed25519 public key, as hex, with which it is signed; null for none."""
    parity: dict[str, JsonValue]
    costs: dict[str, JsonValue]
    limits: dict[str, JsonValue]
    measured: list[dict[str, JsonValue]]
    """What was measured, and where."""
    digest: _Hex

    @property
    def in_int8(self) -> bool:
        """Whether the encoder computes on integers."""
        return self.precision == "int8"

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        sent = (1, *self.payload.sent_shape(self.feature_shape))
        if (self.output.shape, self.output.dtype) != (sent, self.payload.dtype):
            raise ValueError(f"output is not a payload of {self.payload.bits} bits of {self.feature_shape}")
        noise = self.noise
        if (noise is None) != (self.noise_std == 0) or (
            noise is not None and (noise.shape, noise.dtype) != ((1, *self.feature_shape), "float32")
        ):
            raise ValueError("noise and noise_std contradict each other")
        if (self.int8 is not None) != self.in_int8:
            raise ValueError("precision and int8 contradict each other")
        return self

    @model_validator(mode="after")
    def _names_its_members(self) -> Self:
        if list(self.formats) != sorted(set(self.formats)):
            raise ValueError("formats are not sorted")
        expected = {*_ALWAYS, *(name for one in self.formats for name in _OF_FORMATS[one])}
        for name in sorted(self.files.keys() - expected - {_WEIGHTS}):
            raise ValueError(f"files names {name!r}")
        for name in sorted(expected - self.files.keys()):
            raise ValueError(f"{name} is missing among files")
        if "onnx" not in self.formats:
            raise ValueError("formats have no onnx")
        return self


def formats_of(names: Iterable[str]) -> list[Format]:
    """The formats, sorted, of which there are members among ``names``."""
    found = set(names)
    return sorted(one for one, members in _OF_FORMATS.items() if not found.isdisjoint(members))


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The SHA-256, as hex, over a manifest without its ``digest``, in the canonical form of documents."""
    return hashlib.sha256(canonical({key: manifest[key] for key in manifest if key != "digest"})).hexdigest()
