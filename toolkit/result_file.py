"""A result that is also kept in a file of the user's choice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError


def check_result_file(path: Path, kind: str, *, force: bool) -> None:
    """Raise ``InputError`` unless a document of this kind can be written there, before any work is done.

    ``force`` replaces a file, if it is a document of this kind that privynet wrote.
    """
    from ..artifacts import read_document

    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", hint="make it, or choose another --out")
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint="give the name of a file")
    if path.exists() and not force:
        raise InputError(f"{path} exists", hint="choose another --out, or --force to replace it")
    if path.exists():
        read_document(path, kind)


def write_result(path: Path, kind: str, result: Mapping[str, Any], *, seed: int) -> None:
    """Write a verb's result, whole or not at all."""
    from ..artifacts import write_document

    write_document(path, kind, {**result, "seed": seed})
