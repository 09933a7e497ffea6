"""Where in a TOML text a key stands: the parser of the standard library does not say."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]
"""Keys from the outermost table on; a number counts the elements of an array from 0."""

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'""")
_DOT = re.compile(r"[ \t]*\.[ \t]*")
_TEXT = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^\s,\]}#][^,\]}#\n]*")


class KeyLines:
    """The lines (from 1) on which the keys, tables and array elements of a TOML text begin.

    For a text that the parser accepts: what cannot be made out ends the reading, without an error.
    """

    def __init__(self, text: str) -> None:
        scanner = _Scanner(text)
        scanner.document()
        self.found = scanner.found
        """Every place in the order of the text, one that is given twice twice."""
        self._lines: dict[KeyPath, int] = {}
        for path, line in self.found:
            self._lines.setdefault(path, line)

    def __getitem__(self, path: KeyPath) -> int:
        """The line of the key at ``path``, or of the innermost table around it; 1 where there is none.

        A table without a header of its own stands where its first key does.
        """
        while path:
            if path in self._lines:
                return self._lines[path]
            within = [line for known, line in self.found if known[: len(path)] == path]
            if within:
                return min(within)
            path = path[:-1]
        return 1

    def repeated(self) -> list[tuple[KeyPath, int, int]]:
        """Every key that is given again: its path, the line, and the line where it was given first."""
        seen: dict[KeyPath, int] = {}
        again = []
        for path, line in self.found:
            if path in seen:
                again.append((path, line, seen[path]))
            else:
                seen[path] = line
        return again


class _Scanner:
    """Goes through the text key by key; values are looked into for the keys in them, and not read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: list[tuple[KeyPath, int]] = []
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._elements: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        try:
            while self._more():
                start = self.at
                if self._take("[["):
                    name = self._inside_arrays(self._key_path())
                    self._elements[name] = self._elements.get(name, -1) + 1
                    table = (*name, self._elements[name])
                    self._expect("]]")
                    self._note(table, start)
                elif self._take("["):
                    table = self._inside_arrays(self._key_path())
                    self._expect("]")
                    self._note(table, start)
                else:
                    self._pair(table)
        except ValueError:
            return

    def _pair(self, table: KeyPath) -> None:
        start = self.at
        path = table + self._key_path()
        self._expect("=")
        self._note(path, start)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._more()
        if self._take("{"):
            while self._more() and not self._take("}"):
                self._pair(path)
                self._more()
                self._take(",")
        elif self._take("["):
            element = 0
            while self._more() and not self._take("]"):
                self._note((*path, element), self.at)
                self._value((*path, element))
                self._more()
                self._take(",")
                element += 1
        elif match := _TEXT.match(self.text, self.at) or _PLAIN.match(self.text, self.at):
            self.at = match.end()
        else:
            raise ValueError

    def _key_path(self) -> KeyPath:
        parts: list[str] = []
        self._more()
        while match := _KEY.match(self.text, self.at):
            self.at = match.end()
            parts.append(_unquoted(match[0]))
            dot = _DOT.match(self.text, self.at)
            if dot is None:
                return tuple(parts)
            self.at = dot.end()
        raise ValueError

    def _inside_arrays(self, path: KeyPath) -> KeyPath:
        """A header's path: below an array of tables it means the array's last element."""
        full: KeyPath = ()
        for number, part in enumerate(path, start=1):
            full = (*full, part)
            if full in self._elements and number < len(path):
                full = (*full, self._elements[full])
        return full

    def _more(self) -> bool:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return self.at < len(self.text)

    def _take(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def _expect(self, token: str) -> None:
        self._more()
        if not self._take(token):
            raise ValueError

    def _note(self, path: KeyPath, start: int) -> None:
        self.found.append((path, bisect_right(self._starts, start)))


def _unquoted(key: str) -> str:
    return str(tomllib.loads(f"key = {key}")["key"]) if key[0] in "\"'" else key
