"""The folder that ships: one deployable encoder, its manifest with digests, its self-test."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from ..errors import InputError, NegativeResult
from .documents import SCHEMA_VERSION, canonical, check_header, parse
from .files import file_digest, replace_file
from .payload import Payload
from .sessions import OrtEncoder

ARTIFACT_VERSION = 3
"""The version of the artifact layout that this privynet writes, and the only one it reads."""

_MANIFEST = "manifest.json"
# More than any real member needs; read before a member is, so that a hostile one cannot fill the memory.
_MAX_BYTES = {
    "README.md": 2**20,
    "encoder.json": 2**24,
    "encoder.onnx": 2**31,
    _MANIFEST: 2**24,
    "selftest.npz": 2**28,
}
_OPTIONAL = {
    "encoder.mlpackage.zip": 2**31,
    "encoder.ort": 2**31,
    "encoder.pte": 2**31,
    "encoder.safetensors": 2**31,
    "encoder.tflite": 2**31,
    "required_operators.config": 2**20,
}
_FORMATS = {
    "coreml": "encoder.mlpackage.zip",
    "executorch": "encoder.pte",
    "litert": "encoder.tflite",
    "onnx": "encoder.onnx",
    "ort": "encoder.ort",
}

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Dimension = Annotated[int, Field(ge=1)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TensorInfo(_Model):
    """A graph's input or output for one image, as ONNX names it."""

    name: str
    shape: Annotated[tuple[_Dimension, ...], Field(strict=False)]
    dtype: str


class FileInfo(_Model):
    """A member of the artifact."""

    sha256: _Sha256
    bytes: Annotated[int, Field(ge=0)]


class RuntimeSupport(_Model):
    """What a runtime takes of the graph."""

    supported: bool
    nodes: int
    unsupported: Annotated[tuple[str, ...], Field(strict=False)]
    partitions: int | None


class Manifest(_Model):
    """What an artifact says about itself. ``digest`` covers all the rest, and so every member."""

    schema_version: Literal[1]
    kind: Literal["artifact"]
    tool_version: str
    artifact_version: Literal[3]
    spec_digest: str
    precision: Literal["fp32", "int8"]
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
    files: dict[str, FileInfo]
    parity: dict[str, JsonValue]
    costs: dict[str, JsonValue]
    limits: dict[str, JsonValue]
    tools: dict[str, str]
    int8: dict[str, JsonValue] | None
    formats: Annotated[tuple[str, ...], Field(strict=False)]
    runtimes: dict[str, RuntimeSupport]
    measured: list[dict[str, JsonValue]]
    digest: _Sha256

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
        return self


@dataclass(frozen=True)
class Fault:
    """What is wrong with a member of an artifact."""

    file: str
    reason: str


class BrokenArtifact(NegativeResult):
    """An artifact that is not as it was sealed. ``faults`` are never none; ``manifest`` is its manifest, or
    ``None`` where that is the damaged member."""

    def __init__(self, path: Path, faults: Iterable[Fault], manifest: Manifest | None = None) -> None:
        self.faults, self.manifest = tuple(faults), manifest
        super().__init__(
            f"artifact {path} fails its check: {self.faults[0].reason}",
            hint="get a fresh copy or export it again",
        )


@dataclass(frozen=True)
class Artifact:
    """An artifact whose manifest, member list and digests were found right when it was opened."""

    path: Path
    manifest: Manifest
    spec: dict[str, Any]
    """The encoder spec, as it lies in ``encoder.json``."""

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Open the artifact folder ``path`` and check it.

        Raises ``InputError`` when it is no artifact or one of another version, and ``BrokenArtifact`` when
        the manifest is damaged, or a member is missing, extra, no plain file, or of another size or digest.
        """
        manifest = _read_manifest(path)
        faults = tuple(_member_faults(path, manifest))
        if faults:
            raise BrokenArtifact(path, faults, manifest)
        spec = parse((path / "encoder.json").read_bytes())
        if spec is None:
            fault = Fault("encoder.json", "encoder.json is not a JSON object")
            raise BrokenArtifact(path, [fault], manifest)
        return cls(path, manifest, spec)

    @property
    def model(self) -> Path:
        return self.path / "encoder.onnx"

    def session(self, threads: int = 1) -> OrtEncoder:
        """The encoder in ONNX Runtime on ``threads`` CPU threads.

        Raises ``InputError`` when the graph cannot be loaded or is no encoder of the manifest's payload and
        noise, and ``BrokenArtifact`` when an input or output is not what the manifest says.
        """
        manifest = self.manifest
        encoder = OrtEncoder.open(
            self.model,
            digest=manifest.spec_digest,
            payload=manifest.payload,
            noise_std=manifest.noise_std,
            feature_shape=manifest.feature_shape,
            threads=threads,
        )
        pairs = [(manifest.input, encoder.input), (manifest.output, encoder.output)]
        if manifest.noise is not None and encoder.noise is not None:
            pairs.append((manifest.noise, encoder.noise))
        for told, found in pairs:
            if (told.name, told.shape, told.dtype) != (found.name, found.shape, found.dtype):
                reason = f"encoder.onnx has {found}, the manifest says {told.name} {told.shape}"
                raise BrokenArtifact(self.path, [Fault("encoder.onnx", reason)], manifest)
        return encoder


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The SHA-256, as hex, over a manifest without its ``digest``, in the canonical form of documents."""
    return hashlib.sha256(canonical({key: manifest[key] for key in manifest if key != "digest"})).hexdigest()


def seal(folder: Path, body: Mapping[str, Any]) -> Manifest:
    """Make a folder that holds all other members an artifact: write ``manifest.json``, as the last file.

    ``body`` has all keys of the manifest but versions, ``files`` and ``digest``, which are added here. Raises
    ``ValueError`` when a member or a key is missing or of the wrong type, and ``PrivynetError`` when the disk
    is full.
    """
    names = sorted(file.name for file in folder.iterdir())
    if set(names) - _OPTIONAL.keys() != _MAX_BYTES.keys() - {_MANIFEST}:
        raise ValueError(f"{folder} must hold exactly an artifact's members before it is sealed")
    document: dict[str, Any] = {
        **body,
        "schema_version": SCHEMA_VERSION,
        "kind": "artifact",
        "tool_version": version("privynet"),
        "artifact_version": ARTIFACT_VERSION,
        "formats": sorted(name for name, member in _FORMATS.items() if member in names),
        "files": {
            name: {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size}
            for name in names
        },
    }
    document["digest"] = manifest_digest(document)
    data = canonical(document)
    manifest = Manifest.model_validate_json(data)
    with replace_file(folder / _MANIFEST) as temporary:
        temporary.write_bytes(data)
    return manifest


def _read_manifest(path: Path) -> Manifest:
    if not path.exists():
        raise InputError(f"artifact {path} does not exist", hint="give the --out folder of privynet export")
    if not path.is_dir():
        raise InputError(
            f"{path} is not an artifact: it is no folder", hint="give the --out folder of privynet export"
        )
    file = path / _MANIFEST
    if not os.path.lexists(file):
        raise InputError(
            f"{path} is not an artifact: it has no {_MANIFEST}", hint="privynet export writes one"
        )
    reason = _plain_fault(path, _MANIFEST)
    if reason is not None:
        raise _damaged(path, reason)
    data = file.read_bytes()
    document = parse(data)
    if document is None:
        raise _damaged(path, f"{_MANIFEST} is not a JSON object")
    check_header(document, file, "artifact")
    if document.get("artifact_version") != ARTIFACT_VERSION:
        raise InputError(
            f"{path} has artifact version {document.get('artifact_version')!r}, "
            f"this privynet reads {ARTIFACT_VERSION}",
            hint=f"use the privynet that wrote it ({document.get('tool_version')})",
        )
    try:
        # Equal to its canonical form, so that not even a space can be changed.
        if canonical(document) != data or document.get("digest") != manifest_digest(document):
            raise _damaged(path, f"{_MANIFEST} was changed after it was written")
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"has a wrong or missing {place}" if place else f"contradicts itself: {first['msg']}"
        raise _damaged(path, f"{_MANIFEST} {what}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{_MANIFEST} holds what JSON cannot") from error


def _damaged(path: Path, reason: str) -> BrokenArtifact:
    return BrokenArtifact(path, [Fault(_MANIFEST, reason)])


def _member_faults(path: Path, manifest: Manifest) -> Iterator[Fault]:
    """What is wrong with the members, the first of each; digests are compared where all else is right."""
    expected = _MAX_BYTES.keys() | (manifest.files.keys() & _OPTIONAL.keys())
    found = set(_first_names(path, len(expected) + 1))
    for name in sorted(found - expected):
        yield Fault(name, f"{name!r} does not belong to it")
    for name in sorted(manifest.files.keys() - expected):
        yield Fault(_MANIFEST, f"{_MANIFEST} names {name!r}")
    if found - expected:
        # Not all names were read, so what is missing is not known.
        return
    for name in sorted((expected - found) | (expected - {_MANIFEST} - manifest.files.keys())):
        yield Fault(name, f"{name} is missing")
    for name in sorted(manifest.files.keys() & found & expected):
        reason = _plain_fault(path, name)
        size = (path / name).lstat().st_size
        if reason is None and size != manifest.files[name].bytes:
            reason = f"{name} has {size} bytes, the manifest says {manifest.files[name].bytes}"
        if reason is None and file_digest(path / name) != manifest.files[name].sha256:
            reason = f"{name} has another SHA-256 than the manifest says"
        if reason is not None:
            yield Fault(name, reason)


def _first_names(path: Path, count: int) -> Iterable[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry, _ in zip(entries, range(count), strict=False)]


def _plain_fault(path: Path, name: str) -> str | None:
    """Why a member is no plain file of a size that can be."""
    status = (path / name).lstat()
    if not stat.S_ISREG(status.st_mode):
        return f"{name} is not a plain file"
    if status.st_size > (most := (_MAX_BYTES | _OPTIONAL)[name]):
        return f"{name} has {status.st_size} bytes, more than the {most} allowed"
    return None
