"""The errors a user can see: what was wrong, what is allowed, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class PrivynetError(Exception):
    """Something failed while running: a message of one line, and a hint that says what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class InputError(PrivynetError):
    """The user's input cannot be used: a wrong value, a missing file, an artifact that is none."""

    exit_code: ClassVar[int] = 2


class NegativeResult(PrivynetError):
    """An honest negative: nothing feasible, an artifact that fails a check, an invalid measurement."""

    exit_code: ClassVar[int] = 3


_MOST_SHOWN = 16


def unknown(kind: str, value: str, allowed: Iterable[str]) -> InputError:
    """The error for a name that is none of the allowed ones, with the nearest of them as the hint."""
    names = list(allowed)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    shown = names if len(names) <= _MOST_SHOWN else [*names[:_MOST_SHOWN], f"{len(names) - _MOST_SHOWN} more"]
    return InputError(f"unknown {kind} {value!r}", hint=f"{hint}allowed: {', '.join(shown)}")


def one_line(text: str, *, most: int = 200) -> str:
    """Somebody else's text, fit for an error: printable, on one line, of at most ``most`` characters."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:most])
    return f"{shown}…" if len(text) > most else shown
