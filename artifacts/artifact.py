"""What ships, opened: one deployable encoder in a folder or a zip, of which every byte was checked."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import InputError, NegativeResult, one_line
from .archives import BadArchive, might_hold, unpack
from .documents import canonical, check_header, parse
from .files import file_digest, writing
from .manifest import ARTIFACT_VERSION, MANIFEST, MEMBER_LIMITS, SIGNATURE, Manifest, manifest_digest
from .sessions import OrtEncoder
from .signing import Signature

_HINT = "give what privynet export wrote, the folder or the zip"


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
            f"artifact {path} fails its check: {one_line(self.faults[0].reason)}",
            hint="get a fresh copy or export it again",
        )


@dataclass(frozen=True)
class Artifact:
    """An artifact whose manifest, member list and digests were found right when it was opened.

    The members of a zip lie in a private temporary folder, which goes away with this object.
    """

    path: Path
    """The folder or zip that was opened."""
    folder: Path
    """Where its members lie."""
    manifest: Manifest
    manifest_bytes: bytes
    """What ``manifest`` was parsed from, and what is signed."""
    spec: dict[str, Any]
    """The encoder spec, as it lies in ``encoder.json``."""
    signature: Signature | None
    """As it lies in ``manifest.sig``, not checked against the manifest."""

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Open the artifact ``path``, a folder or a zip, and check it.

        Raises ``InputError`` when it is no artifact or one of another version, and ``BrokenArtifact`` when
        the manifest is damaged, or a member is missing, extra, no plain file, or of another size or digest,
        or when a zip is not as ``privynet`` writes it.
        """
        if not path.exists():
            raise InputError(f"artifact {path} does not exist", hint=_HINT)
        if path.is_dir():
            return cls._open(path, path)
        if not might_hold(path, MANIFEST):
            raise InputError(
                f"{path} is not an artifact: it is neither a folder nor a zip with a {MANIFEST}", hint=_HINT
            )
        folder = Path(tempfile.mkdtemp(prefix="privynet-"))
        try:
            _unpack(path, folder)
            artifact = cls._open(path, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(artifact, shutil.rmtree, folder, ignore_errors=True)
        return artifact

    @classmethod
    def _open(cls, path: Path, folder: Path) -> Artifact:
        # Read once: what is parsed is what the signature is checked on.
        data = _read_manifest(path, folder)
        manifest = _parse_manifest(path, data)
        faults = tuple(_member_faults(folder, manifest))
        if faults:
            raise BrokenArtifact(path, faults, manifest)
        spec = parse((folder / "encoder.json").read_bytes())
        if spec is None:
            fault = Fault("encoder.json", "encoder.json is not a JSON object")
            raise BrokenArtifact(path, [fault], manifest)
        signature = None
        if (folder / SIGNATURE).exists():
            signature = Signature.parse((folder / SIGNATURE).read_bytes())
            if signature is None or signature.public_key.raw.hex() != manifest.signer:
                fault = Fault(SIGNATURE, f"{SIGNATURE} holds no signature by the manifest's signer")
                raise BrokenArtifact(path, [fault], manifest)
        return cls(path, folder, manifest, data, spec, signature)

    @property
    def model(self) -> Path:
        return self.folder / "encoder.onnx"

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


def looks_like_artifact(path: Path) -> bool:
    """Whether ``path`` is a folder or a zip with a manifest, or a zip that is damaged."""
    return (path / MANIFEST).is_file() or might_hold(path, MANIFEST)


def _unpack(file: Path, folder: Path) -> None:
    try:
        with writing(folder):
            unpack(file, folder, MEMBER_LIMITS)
    except BadArchive as bad:
        fault = Fault(bad.member or file.name, f"{bad.member or file.name!r} {bad.reason}")
        raise BrokenArtifact(file, [fault]) from bad


def _read_manifest(path: Path, folder: Path) -> bytes:
    file = folder / MANIFEST
    if not os.path.lexists(file):
        raise InputError(f"{path} is not an artifact: it has no {MANIFEST}", hint=_HINT)
    reason = _plain_fault(folder, MANIFEST)
    if reason is not None:
        raise _damaged(path, reason)
    return file.read_bytes()


def _parse_manifest(path: Path, data: bytes) -> Manifest:
    document = parse(data)
    if document is None:
        raise _damaged(path, f"{MANIFEST} is not a JSON object")
    check_header(document, path / MANIFEST, "artifact")
    _check_version(path, document)
    try:
        # Equal to its canonical form, so that not even a space can be changed.
        if canonical(document) != data or document.get("digest") != manifest_digest(document):
            raise _damaged(path, f"{MANIFEST} was changed after it was written")
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = one_line(".".join(str(part) for part in first["loc"]), most=100)
        what = f"has a wrong or missing {place}" if place else f"contradicts itself: {one_line(first['msg'])}"
        raise _damaged(path, f"{MANIFEST} {what}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{MANIFEST} holds what JSON cannot") from error


def _check_version(path: Path, document: dict[str, Any]) -> None:
    found = document.get("artifact_version")
    if found == ARTIFACT_VERSION:
        return
    writer, shown = one_line(str(document.get("tool_version")), most=40), one_line(repr(found), most=40)
    older = isinstance(found, int) and found < ARTIFACT_VERSION
    raise InputError(
        f"{path} has artifact version {shown}, this privynet reads {ARTIFACT_VERSION}",
        hint="export it again" if older else f"use the privynet that wrote it ({writer})",
    )


def _damaged(path: Path, reason: str) -> BrokenArtifact:
    return BrokenArtifact(path, [Fault(MANIFEST, reason)])


def _member_faults(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    """What is wrong with the members, the first of each; digests are compared where all else is right."""
    expected = manifest.files.keys() | {MANIFEST} | ({SIGNATURE} if manifest.signer else set())
    found = set(_first_names(folder, len(expected) + 1))
    for name in sorted(found - expected):
        yield Fault(name, f"{name!r} does not belong to it")
    if found - expected:
        # Not all names were read, so what is missing is not known.
        return
    for name in sorted(expected - found):
        yield Fault(name, f"{name} is missing")
    if SIGNATURE in found and (reason := _plain_fault(folder, SIGNATURE)) is not None:
        yield Fault(SIGNATURE, reason)
    for name in sorted(manifest.files.keys() & found):
        reason = _plain_fault(folder, name)
        size = (folder / name).lstat().st_size
        if reason is None and size != manifest.files[name].bytes:
            reason = f"{name} has {size} bytes, the manifest says {manifest.files[name].bytes}"
        if reason is None and file_digest(folder / name) != manifest.files[name].sha256:
            reason = f"{name} has another SHA-256 than the manifest says"
        if reason is not None:
            yield Fault(name, reason)


def _first_names(folder: Path, count: int) -> Iterable[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry, _ in zip(entries, range(count), strict=False)]


def _plain_fault(folder: Path, name: str) -> str | None:
    """Why a member is no plain file of a size that can be."""
    status = (folder / name).lstat()
    if not stat.S_ISREG(status.st_mode):
        return f"{name} is not a plain file"
    if status.st_size > MEMBER_LIMITS[name]:
        return f"{name} has {status.st_size} bytes, more than the {MEMBER_LIMITS[name]} allowed"
    return None
