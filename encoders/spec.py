"""The encoder spec: one document that says everything needed to rebuild an encoder."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..artifacts import Payload, read_document, write_document
from ..errors import InputError, one_line

KIND = "encoder-spec"

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Triple = tuple[float, float, float]
_FILES = frozenset({"weights", "adapted_weights", "projection_weights"})
"""Fields that hold for one machine."""


class UnfitSpec(InputError):
    """A spec that does not fit its backbone, whoever's weights it gets."""


def new_salt() -> str:
    """A random 128-bit salt from the operating system, in hex."""
    return secrets.token_hex(16)


class Adapted(BaseModel):
    """That the encoder's weights were trained further after slicing, and which they are now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["nopeek"]
    alpha: float = Field(ge=0, allow_inf_nan=False)
    """The weight of distance correlation in the loss."""
    digest: _Digest
    """SHA-256 over the adapted tensors (``adapted.parameters_digest``)."""


ProjectionMethod = Literal["eigen", "adversarial", "given"]


class Projection(BaseModel):
    """That the encoder sends mixtures of its kept channels (a 1x1 convolution), and which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outputs: int = Field(gt=0)
    """How many mixtures are sent."""
    method: ProjectionMethod
    """How the matrix was found."""
    digest: _Digest
    """SHA-256 over the matrix (``projection.projection_digest``) before any ``adapted`` training."""


class Int8(BaseModel):
    """That the encoder is exported in integers of 8 bits, and on which grids."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grids: dict[str, tuple[_Scale, Annotated[int, Field(ge=0, le=255)]]] = Field(min_length=1)
    """Scale and zero point of each tensor, by its name in the float32 graph that the spec is exported to
    without noise and payload: a value is (q - zero_point) * scale, q in uint8."""
    in_float: tuple[str, ...] = ()
    """The nodes of that graph that still compute in float32."""


class EncoderSpec(BaseModel):
    """Backbone, cut, channels, preprocessing, noise and payload of one encoder.

    The digest is salted, so that the kept channels cannot be found by trying them against it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    backbone: str = Field(min_length=1)
    """The backbone string without weights and preprocessing."""
    weights_digest: _Digest
    """SHA-256 over the backbone's tensors (``state_dicts.state_digest``)."""
    mean: _Triple
    std: _Triple
    input_size: int = Field(gt=0)
    """Pixels; images are square."""
    cut: str = Field(min_length=1)
    channels: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    """The kept channels of the cut, in the order of the encoder's output, or of the projection's columns."""
    gathers: int = Field(default=0, ge=0)
    """How many gathers slicing could not avoid."""
    payload: Payload = Payload()
    noise_std: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Standard deviation of the Gaussian noise that is added to each value before it is quantised."""
    projection: Projection | None = None
    adapted: Adapted | None = None
    """Where there is a projection too, it was trained along."""
    int8: Int8 | None = None
    """``None`` for float32."""
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    weights: str | None = None
    """Where the weights were read on the machine that wrote this: not part of the digest, never shipped."""
    adapted_weights: str | None = None
    """Where the adapted weights lie: a path, ``read`` takes it from the spec file's folder if it is relative.
    Not part of the digest, never shipped."""
    projection_weights: str | None = None
    """Where the projection's matrix lies, in the same way; adapted weights hold it themselves."""

    @field_validator("payload", mode="before")
    @classmethod
    def _as_it_was_first_written(cls, payload: object) -> object:
        return Payload() if payload == "float32" else payload

    @field_validator("channels")
    @classmethod
    def _different(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(channels)) != len(channels):
            raise ValueError("channels must differ from each other")
        return channels

    @model_validator(mode="after")
    def _hint_of_something(self) -> Self:
        if self.adapted_weights is not None and self.adapted is None:
            raise ValueError("adapted_weights without adapted")
        if self.projection_weights is not None and self.projection is None:
            raise ValueError("projection_weights without projection")
        return self

    @property
    def outputs(self) -> int:
        """How many channels leave the device."""
        return self.projection.outputs if self.projection else len(self.channels)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the canonical JSON of all fields but those that say where files lie."""
        # Specs from before there were projections and integers keep their digest.
        without = _FILES | {name for name in ("projection", "int8") if getattr(self, name) is None}
        fields = self.model_dump(mode="json", exclude=set(without))
        return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def in_float32(self) -> EncoderSpec:
        """The same encoder in float32; another spec with another digest, where this one is in int8."""
        return self.model_copy(update={"int8": None})

    def for_shipping(self) -> EncoderSpec:
        """The same spec without what belongs to this machine."""
        return self.model_copy(update=dict.fromkeys(_FILES))

    def document(self) -> dict[str, Any]:
        """The JSON form, without the document's header."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write the spec as a document."""
        write_document(path, KIND, self.document())

    @classmethod
    def read(cls, path: Path) -> EncoderSpec:
        """Read a spec. Raises ``InputError`` when the file is none, or of another schema version."""
        spec = cls.from_document(read_document(path, KIND), source=str(path))
        beside = {"adapted_weights": spec.adapted_weights, "projection_weights": spec.projection_weights}
        # An absolute path stays what it is.
        found = {name: str(path.parent.resolve() / file) for name, file in beside.items() if file is not None}
        return spec.model_copy(update=found)

    @classmethod
    def from_document(cls, document: dict[str, Any], *, source: str = "the spec") -> EncoderSpec:
        """A spec from its JSON form, with or without the document's header."""
        header = {"schema_version", "kind", "tool_version"}
        try:
            return cls.model_validate({key: value for key, value in document.items() if key not in header})
        except ValidationError as error:
            first = error.errors()[0]
            place = one_line(".".join(str(part) for part in first["loc"]), most=100)
            reason = one_line(first["msg"])
            raise InputError(f"{source} is not an encoder spec: {place}: {reason}") from error
