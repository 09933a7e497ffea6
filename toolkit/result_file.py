"""A result that is also kept in a file of the user's choice."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

_TITLE = b"<title>privynet: "
"""How every page of ours begins, after a few lines."""
_BEGINNING = 4096


def check_result_file(path: Path, kind: str, *, force: bool) -> None:
    """Raise ``InputError`` unless a document of this kind can be written there, before any work is done.

    ``force`` replaces a file, if it is a document of this kind that privynet wrote.
    """
    from ..artifacts import read_document

    _check_place(path, "--out", force=force)
    if path.exists():
        read_document(path, kind)


def check_profile_file(path: Path, *, force: bool) -> None:
    """As :func:`check_result_file`, for a device profile."""
    from ..device_profiles import load_profile

    _check_place(path, "--out", force=force)
    if path.exists():
        try:
            load_profile(str(path.absolute()))
        except InputError:
            raise InputError(
                f"{path} is no device profile, and is not replaced", hint="choose another --out"
            ) from None


def check_page(path: Path, *, force: bool) -> None:
    """As :func:`check_result_file`, for a page: ``force`` replaces one of ours."""
    _check_place(path, "--report", force=force)
    if path.exists():
        with path.open("rb") as stream:
            ours = _TITLE in stream.read(_BEGINNING)
        if not ours:
            raise InputError(
                f"{path} is no page of privynet, and is not replaced", hint="choose another --report"
            )


def _check_place(path: Path, option: str, *, force: bool) -> None:
    """Raise ``InputError`` unless a file can be written there; one that is there needs ``force``."""
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", hint=f"make it, or choose another {option}")
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint="give the name of a file")
    if path.exists() and not force:
        raise InputError(f"{path} exists", hint=f"choose another {option}, or --force to replace it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path.parent} cannot be written", hint=f"choose another {option}")


def write_result(path: Path, kind: str, result: Mapping[str, Any], *, seed: int) -> None:
    """Write a verb's result, whole or not at all."""
    from ..artifacts import write_document

    write_document(path, kind, {**result, "seed": seed})
