"""What a check or an export has to tell of an artifact beside its figures."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import one_line

Finding = dict[str, str]
"""``code``, ``severity`` (``error`` or ``warning``), ``file`` (the member) and ``message``."""


def finding(code: str, file: str, message: str, *, severity: str = "error") -> Finding:
    """A finding whose words may come from anybody: one printable line each."""
    shown = one_line(" ".join(message.split()), most=300)
    return {"code": code, "severity": severity, "file": one_line(file, most=100), "message": shown}


def warning(code: str, file: str, message: str) -> Finding:
    """What should be known, and refuses nothing."""
    return finding(code, file, message, severity="warning")


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those that refuse an artifact."""
    return [one for one in findings if one["severity"] == "error"]
