"""What ships, written: a folder of members, sealed by its manifest, as it is or as one zip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import InputError, PrivynetError
from .archives import BadArchive, members_of, pack
from .documents import SCHEMA_VERSION, canonical
from .files import file_digest, replace_file, sibling, writing
from .folders import new_folder
from .manifest import (
    ARTIFACT_VERSION,
    MANIFEST,
    MEMBER_LIMITS,
    SIGNATURE,
    Manifest,
    formats_of,
    manifest_digest,
)
from .signing import SigningKey


@contextmanager
def new_artifact(out: Path, *, force: bool = False) -> Iterator[Path]:
    """Fill a temporary folder that becomes the artifact ``out`` when the context ends without an exception.

    That is the folder itself, or one zip of it where ``out`` ends in ``.zip``. ``force`` replaces what
    privynet wrote, a folder by a folder and a zip by a zip, and nothing else. Raises ``InputError`` when
    ``out`` exists and is not to be replaced, and ``PrivynetError`` when the disk is full; nothing of it is
    left then.
    """
    if out.suffix.lower() != ".zip":
        with new_folder(out, force=force) as folder:
            yield folder
        return
    _check_free(out, force=force)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = sibling(out)
        folder.mkdir(mode=0o700)
        try:
            yield folder
            with replace_file(out) as temporary:
                pack(folder, temporary)
                _check_free(out, force=force)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def seal(folder: Path, body: Mapping[str, Any], *, key: SigningKey | None = None) -> Manifest:
    """Make a folder that holds all other members an artifact: write ``manifest.json``, signed with ``key``.

    ``body`` has all keys of the manifest but versions, ``formats``, ``files``, ``signer`` and ``digest``.
    Raises ``ValueError`` when a member or a key is missing, foreign or of the wrong type, and
    ``PrivynetError`` when a member is too large or the disk is full.
    """
    names = sorted(file.name for file in folder.iterdir())
    foreign = [name for name in names if name not in MEMBER_LIMITS or name in (MANIFEST, SIGNATURE)]
    if foreign:
        raise ValueError(f"{folder} holds {', '.join(foreign)}, which cannot be sealed")
    for name in names:
        if (folder / name).stat().st_size > MEMBER_LIMITS[name]:
            raise PrivynetError(f"{name} is larger than the {MEMBER_LIMITS[name]} bytes that it may have")
    document: dict[str, Any] = {
        **body,
        "schema_version": SCHEMA_VERSION,
        "kind": "artifact",
        "tool_version": version("privynet"),
        "artifact_version": ARTIFACT_VERSION,
        "formats": formats_of(names),
        "files": {
            name: {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size}
            for name in names
        },
        "signer": None if key is None else key.public_key.raw.hex(),
    }
    document["digest"] = manifest_digest(document)
    data = canonical(document)
    manifest = Manifest.model_validate_json(data)
    if key is not None:
        with replace_file(folder / SIGNATURE) as temporary:
            temporary.write_bytes(key.sign(data).text())
    with replace_file(folder / MANIFEST) as temporary:
        temporary.write_bytes(data)
    return manifest


def _check_free(out: Path, *, force: bool) -> None:
    """As ``new_folder`` does it for folders."""
    if not os.path.lexists(out):
        return
    if not force:
        raise InputError(f"{out} exists", hint="choose another --out, or --force to replace it")
    if out.is_symlink() or not out.is_file():
        raise InputError(f"{out} is not a file", hint="--force replaces a zip by a zip")
    try:
        ours = MANIFEST in members_of(out, MEMBER_LIMITS)
    except BadArchive:
        ours = False
    if not ours:
        raise InputError(
            f"{out} was not written by privynet", hint="--force replaces only what privynet wrote"
        )
