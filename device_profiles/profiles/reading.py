"""Reads profiles: the shipped ones by name, the user's own by path, with findings that name file and key."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ...errors import InputError, unknown
from ..metrics import METRICS
from . import schema
from .toml_lines import line_of

CATALOGUE = Path(__file__).parents[1] / "catalogue"


@dataclass(frozen=True)
class Finding:
    """Something wrong with, or to know about, a profile file; ``line`` counts from 1."""

    code: str
    severity: Literal["error", "warning"]
    line: int | None
    message: str


def load_profile(name_or_path: str) -> schema.DeviceProfile:
    """The shipped profile of that name, or the profile in the file at that path.

    Raises :class:`InputError` for an unknown name, a missing file, and the first error in the file, naming
    file, line and key.
    """
    shipped = CATALOGUE / f"{name_or_path}.toml"
    is_path = "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(".toml")
    if not is_path and shipped.is_file():
        return _load(shipped)
    path = Path(name_or_path)
    if is_path or path.is_file():
        return _load(path)
    raise unknown("device", name_or_path, _shipped_names())


@functools.cache
def catalogue() -> tuple[schema.DeviceProfile, ...]:
    """The shipped profiles, by name."""
    return tuple(_load(CATALOGUE / f"{name}.toml") for name in _shipped_names())


def validate_profile(path: str | Path) -> list[dict[str, Any]]:
    """What is wrong with a profile file: ``[{code, severity, line, message}]``, empty when nothing is.

    Severity ``error``: the profile cannot be used; ``warning``: it can, but look. A file that does not exist
    or is not text is an :class:`InputError`.
    """
    _, findings = _examine(Path(path))
    return [asdict(finding) for finding in findings]


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in CATALOGUE.glob("*.toml"))


def _load(path: Path) -> schema.DeviceProfile:
    profile, findings = _examine(path)
    if profile is None:
        first = findings[0]
        where = str(path) if first.line is None else f"{path}:{first.line}"
        more = f" ({len(findings) - 1} more)" if len(findings) > 1 else ""
        raise InputError(
            f"{where}: {first.message}{more}", hint="privynet devices validate lists all findings"
        )
    return profile


def _examine(path: Path) -> tuple[schema.DeviceProfile | None, list[Finding]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"cannot read the device profile {path}: {reason}", hint="give a TOML file"
        ) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        line = int(place[1]) if place else None
        return None, [Finding("not-toml", "error", line, f"not TOML: {error}")]
    try:
        profile = schema.DeviceProfile.model_validate(document)
    except ValidationError as error:
        # A misspelt key comes before the missing key that it caused.
        findings = [_finding(text, detail) for detail in error.errors()]
        return None, sorted(findings, key=lambda finding: finding.code != "unknown-key")
    warnings = []
    if not profile.limits:
        message = "the profile sets no limits; a search falls back on the default limit alone"
        warnings.append(Finding("no-limits", "warning", None, message))
    return profile, warnings


def _finding(text: str, detail: ErrorDetails) -> Finding:
    context = detail.get("ctx", {})
    path = tuple(str(part) for part in detail["loc"] if part != "[key]")
    if "metric" in context:
        path += (str(context["metric"]),)
    elif "key" in context:
        path = tuple(str(context["key"]).split("."))
    key = ".".join(path)
    line = line_of(text, path)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _known_keys(), n=1, cutoff=0.0)
        return Finding("unknown-key", "error", line, f"unknown key {key}, the nearest known one is {near[0]}")
    if detail["type"] == "missing":
        return Finding("missing-key", "error", line, f"key {key} is missing")
    if detail["type"] == "model_type":
        message = f"{key} is {detail['input']!r}, but must be a table"
        return Finding("bad-value", "error", line, message)
    given = "" if isinstance(detail["input"], dict | BaseModel) else f", not {detail['input']!r}"
    message = f"{key}: {detail['msg'][:1].lower()}{detail['msg'][1:]}{given}"
    if detail["type"] in ("greater_than_equal", "greater_than") and str(detail["input"]).startswith("-"):
        return Finding("negative-figure", "error", line, message)
    return Finding("bad-value", "error", line, message)


@functools.cache
def _known_keys() -> list[str]:
    sections = (
        schema.DeviceProfile,
        schema.LatencyModel,
        schema.Coefficients,
        schema.Limit,
        schema.Spread,
    )
    fields = {field.alias or name for section in sections for name, field in section.model_fields.items()}
    return sorted(fields | set(METRICS))
