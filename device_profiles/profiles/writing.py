"""Writes a profile as TOML in the catalogue's own style: a figure a line, as an inline table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...artifacts import replace_file
from ...errors import InputError
from .schema import DeviceProfile

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_EXACT = 2**53
"""Whole numbers up to here are the same as integers and as floats."""


def write_profile(profile: DeviceProfile, path: Path, *, force: bool = False) -> None:
    """Write a profile that :func:`load_profile` reads back as the same one; the file appears whole or not.

    Raises:
        InputError: the file exists and ``force`` is not given, or the place cannot be written.
        PrivynetError: the disk is full.
    """
    if path.exists() and not force:
        raise InputError(f"{path} exists", hint="--force replaces it")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}", hint="make it first")
    with replace_file(path) as temporary:
        temporary.write_text(profile_text(profile), encoding="utf-8")


def profile_text(profile: DeviceProfile) -> str:
    """What :func:`write_profile` writes."""
    document = profile.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return "\n".join(_table(document, ())).strip() + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """The lines of a table: what fits on a line first, then the tables in it."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping) and not _is_leaf(value)}
    own = {key: value for key, value in table.items() if key not in inner}
    if path and (own or not inner):
        yield ""
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in own.items():
        yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        yield from _table(value, (*path, key))


def _is_leaf(table: Mapping[str, Any]) -> bool:
    """Whether a table is a figure or a limit: it has a value, and nothing in it goes deeper."""
    return "value" in table and not any(isinstance(value, Mapping | list) for value in table.values())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) <= _EXACT
        return str(int(value)) if whole else repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        # numbers first: a figure's interval beside its value
        inner = sorted(value.items(), key=lambda item: not isinstance(item[1], int | float))
        return f"{{ {', '.join(f'{_key(key)} = {_value(part)}' for key, part in inner)} }}"
    if isinstance(value, list):
        if any(isinstance(part, Mapping | list) for part in value):
            return "".join(["[\n", *(f"  {_value(part)},\n" for part in value), "]"])
        return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for the one control character that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
