"""What is wrong with a profile's file: all of it at once, each finding with its line and key."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ...errors import InputError
from .json_schema import keys_at
from .schema import DeviceProfile
from .sense import doubts_about
from .toml_lines import KeyLines, KeyPath

_NOT_A_TABLE = {"model_type", "model_attributes_type", "dict_type"}
_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "multiple_of"}


@dataclass(frozen=True)
class Finding:
    """Something wrong with, or to know about, a profile file; ``line`` counts from 1."""

    code: str
    severity: Literal["error", "warning"]
    line: int
    message: str


def validate_profile(path: str | Path) -> list[dict[str, Any]]:
    """What is wrong with a profile file: ``[{code, severity, line, message}]``, empty when nothing is.

    Severity ``error``: the profile cannot be used; ``warning``: it can, but look. A file that does not exist
    or is not text is an :class:`InputError`.
    """
    _, findings = examine(Path(path))
    return [asdict(finding) for finding in findings]


def read_profile(path: Path) -> DeviceProfile:
    """The profile in a file. Raises :class:`InputError` with the first error in it: file, line and key."""
    profile, findings = examine(path)
    if profile is None:
        more = f" ({len(findings) - 1} more)" if len(findings) > 1 else ""
        raise InputError(
            f"{path}:{findings[0].line}: {findings[0].message}{more}",
            hint="privynet devices validate lists all findings",
        )
    return profile


def examine(path: Path) -> tuple[DeviceProfile | None, list[Finding]]:
    """The profile in a file, or ``None`` where it cannot be used; and all findings by line.

    Raises :class:`InputError` for a file that does not exist or is not text.
    """
    text = _read(path)
    try:
        document = tomllib.loads(text)
        lines = KeyLines(text)
    except tomllib.TOMLDecodeError as error:
        return None, _not_toml(text, str(error))
    except RecursionError:
        return None, [Finding("not-toml", "error", 1, "not TOML: tables or arrays are nested too deeply")]
    try:
        profile = DeviceProfile.model_validate(document)
    except ValidationError as error:
        found = [_finding(lines, detail) for detail in _without_echoes(error.errors())]
        return None, sorted(found, key=lambda finding: finding.line)
    doubts = doubts_about(profile)
    found = [Finding(doubt.code, "warning", lines[doubt.path], doubt.message) for doubt in doubts]
    return profile, sorted(found, key=lambda finding: finding.line)


def _read(path: Path) -> str:
    try:
        # Some editors begin a file with a mark of its encoding.
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"cannot read the device profile {path}: {reason}", hint="give a TOML file"
        ) from None


def _not_toml(text: str, message: str) -> list[Finding]:
    twice = KeyLines(text).repeated()
    if twice and message.startswith(("Cannot ", "Duplicate ")):  # the syntax is right
        return [
            Finding("given-twice", "error", line, f"{_dotted(path)} is given twice, first on line {first}")
            for path, line, first in twice
        ]
    place = re.search(r"\(at line (\d+)", message)
    line = int(place[1]) if place else text.rstrip().count("\n") + 1
    return [Finding("not-toml", "error", line, f"not TOML: {message[:1].lower()}{message[1:]}")]


def _without_echoes(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without the keys that are missing only because they are misspelt."""
    misspelt = {
        (*path[:-1], near)
        for detail in details
        if detail["type"] == "extra_forbidden" and (near := _nearest(path := _path(detail)))
    }
    return [detail for detail in details if detail["type"] != "missing" or _path(detail) not in misspelt]


def _path(detail: ErrorDetails) -> KeyPath:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _nearest(path: KeyPath) -> str | None:
    """The key that was likely meant, of those that may stand in the same table."""
    near = difflib.get_close_matches(str(path[-1]).lower(), keys_at(path[:-1]), n=1)
    return near[0] if near else None


def _keys_of(path: KeyPath) -> str:
    """The keys that a table has, as they are written."""
    return ", ".join(f"{key} = …" for key in keys_at(path))


def _finding(lines: KeyLines, detail: ErrorDetails) -> Finding:
    path = _path(detail)
    kind, given = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        near, known = _nearest(path), ", ".join(keys_at(path[:-1]))
        told = f"did you mean {near}?" if near else f"known here: {known}"
        return Finding("unknown-key", "error", lines[path], f"unknown key {_dotted(path)}; {told}")
    if kind == "missing":
        return Finding("missing-key", "error", lines[path[:-1]], f"key {_dotted(path)} is missing")
    key = _dotted(path)
    if kind in _NOT_A_TABLE:
        return Finding(
            "bad-value",
            "error",
            lines[path],
            f"{key} is {given!r}, but must be a table, as {{ {_keys_of(path)} }}",
        )
    if kind == "profile":  # a validator of ours
        at = [detail["ctx"]["at"]] if detail["ctx"]["at"] else []
        return Finding("bad-value", "error", lines[(*path, *at)], f"{key}: {detail['msg']}")
    if kind == "literal_error" and path[-1] == "unit":
        told = f"{_dotted(path[:-1])}: unit {given} is not allowed, give it in {detail['ctx']['expected']}"
        return Finding("wrong-unit", "error", lines[path], told.replace("'", ""))
    message = "must be a whole number" if kind == "multiple_of" else detail["msg"]
    message = f"{key}: {message[:1].lower()}{message[1:]}"
    if not isinstance(given, dict | list | BaseModel):
        message += f", not {given!r}"
    negative = kind in _OUT_OF_RANGE and isinstance(given, int | float) and given < 0
    return Finding("negative-figure" if negative else "bad-value", "error", lines[path], message)


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))
