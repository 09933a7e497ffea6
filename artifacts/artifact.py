"""The folder that ships: one deployable encoder, its manifest with digests, its self-test."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from ..errors import InputError, NegativeResult
from .documents import SCHEMA_VERSION, canonical, check_header, parse
from .files import file_digest, replace_file
from .sessions import OrtEncoder

ARTIFACT_VERSION = 1
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


class Manifest(_Model):
    """What an artifact says about itself. ``digest`` covers all the rest, and so every member."""

    schema_version: Literal[1]
    kind: Literal["artifact"]
    tool_version: str
    artifact_version: Literal[1]
    spec_digest: str
    precision: Literal["fp32", "int8"]
    input: TensorInfo
    output: TensorInfo
    opset: Annotated[int, Field(ge=1)]
    files: dict[str, FileInfo]
    parity: dict[str, JsonValue]
    costs: dict[str, JsonValue]
    limits: dict[str, JsonValue]
    digest: _Sha256


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

        Raises ``InputError`` when it is no artifact or one of another version, and ``NegativeResult`` when
        the manifest is damaged, or a member is missing, extra, no plain file, or of another size or digest.
        """
        manifest = _read_manifest(path)
        _check_members(path, manifest)
        spec = parse((path / "encoder.json").read_bytes())
        if spec is None:
            raise _fails(path, "encoder.json is not a JSON object")
        return cls(path, manifest, spec)

    @property
    def model(self) -> Path:
        return self.path / "encoder.onnx"

    def session(self, threads: int = 1) -> OrtEncoder:
        """The encoder in ONNX Runtime on ``threads`` CPU threads.

        Raises ``InputError`` when the graph cannot be loaded and ``NegativeResult`` when its input or output
        is not what the manifest says.
        """
        encoder = OrtEncoder.open(self.model, digest=self.manifest.spec_digest, threads=threads)
        for told, found in ((self.manifest.input, encoder.input), (self.manifest.output, encoder.output)):
            if (told.name, told.shape, told.dtype) != (found.name, found.shape, found.dtype):
                raise _fails(
                    self.path, f"encoder.onnx has {found}, the manifest says {told.name} {told.shape}"
                )
        return encoder


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The SHA-256, as hex, over a manifest without its ``digest``, in the canonical form of documents."""
    return hashlib.sha256(canonical({key: manifest[key] for key in manifest if key != "digest"})).hexdigest()


def seal(folder: Path, body: Mapping[str, Any]) -> Manifest:
    """Make a folder that holds all other members an artifact: write ``manifest.json``, as the last file.

    ``body`` has the manifest's ``spec_digest``, ``precision``, ``input``, ``output``, ``opset``, ``parity``,
    ``costs`` and ``limits``; versions, ``files`` and ``digest`` are added here. Raises ``ValueError`` when a
    member or a key is missing or of the wrong type, and ``PrivynetError`` when the disk is full.
    """
    names = sorted(_MAX_BYTES.keys() - {_MANIFEST})
    if sorted(file.name for file in folder.iterdir()) != names:
        raise ValueError(f"{folder} must hold exactly {', '.join(names)} before it is sealed")
    document: dict[str, Any] = {
        **body,
        "schema_version": SCHEMA_VERSION,
        "kind": "artifact",
        "tool_version": version("privynet"),
        "artifact_version": ARTIFACT_VERSION,
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
    _check_plain(path, _MANIFEST)
    data = file.read_bytes()
    document = parse(data)
    if document is None:
        raise _fails(path, f"{_MANIFEST} is not a JSON object")
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
            raise _fails(path, f"{_MANIFEST} was changed after it was written")
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise _fails(path, f"{_MANIFEST} has a wrong or missing {place}") from error
    except (ValueError, RecursionError) as error:
        raise _fails(path, f"{_MANIFEST} holds what JSON cannot") from error


def _check_members(path: Path, manifest: Manifest) -> None:
    expected = _MAX_BYTES.keys()
    found = set(_first_names(path, len(expected) + 1))
    if found - expected:
        raise _fails(path, f"{min(found - expected)!r} does not belong to it")
    missing = (expected - found) | (expected - {_MANIFEST} - manifest.files.keys())
    if missing:
        raise _fails(path, f"{min(missing)} is missing")
    if manifest.files.keys() - expected:
        raise _fails(path, f"{_MANIFEST} names {min(manifest.files.keys() - expected)!r}")
    for name in sorted(manifest.files):
        size = _check_plain(path, name)
        if size != manifest.files[name].bytes:
            raise _fails(path, f"{name} has {size} bytes, the manifest says {manifest.files[name].bytes}")
    for name in sorted(manifest.files):
        if file_digest(path / name) != manifest.files[name].sha256:
            raise _fails(path, f"{name} has another SHA-256 than the manifest says")


def _first_names(path: Path, count: int) -> Iterable[str]:
    with os.scandir(path) as entries:
        return [entry.name for entry, _ in zip(entries, range(count), strict=False)]


def _check_plain(path: Path, name: str) -> int:
    """The size of a member in bytes, after checking that it is a plain file and not absurdly large."""
    status = (path / name).lstat()
    if not stat.S_ISREG(status.st_mode):
        raise _fails(path, f"{name} is not a plain file")
    if status.st_size > _MAX_BYTES[name]:
        raise _fails(path, f"{name} has {status.st_size} bytes, more than the {_MAX_BYTES[name]} allowed")
    return status.st_size


def _fails(path: Path, reason: str) -> NegativeResult:
    return NegativeResult(
        f"artifact {path} fails its check: {reason}", hint="get a fresh copy or export it again"
    )
