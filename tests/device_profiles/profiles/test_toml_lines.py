from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.device_profiles.profiles.toml_lines import KeyLines

TEXT = '''# a comment = 1
name = "x # no comment"
a.b = 2

[table]   # the table
key = 'value = 3'
"quoted.key" = 4
"with \\" quote" = 5
  indented = { inner = 6, deeper = { a.b = 7 }, "quoted" = "}" }
long = """
fake = 1
[fake]
"""  # two
raw = \'\'\'
fake = 2 \'\'\'
when = 1979-05-27 07:32:00  # a date

[table . deeper]
list = [
  1,
  { x = 8 },  # ] a comment
  [ "]", 2,
    3 ],
]

[[many]]
first = 1
[[many]]
second = 2
[many.below]
third = 3
[["many"]]
'''
LINES = {
    ("name",): 2,
    ("a", "b"): 3,
    ("table",): 5,
    ("table", "key"): 6,
    ("table", "quoted.key"): 7,
    ("table", 'with " quote'): 8,
    ("table", "indented"): 9,
    ("table", "indented", "inner"): 9,
    ("table", "indented", "deeper"): 9,
    ("table", "indented", "deeper", "a", "b"): 9,
    ("table", "indented", "quoted"): 9,
    ("table", "long"): 10,
    ("table", "raw"): 14,
    ("table", "when"): 16,
    ("table", "deeper"): 18,
    ("table", "deeper", "list"): 19,
    ("table", "deeper", "list", 0): 20,
    ("table", "deeper", "list", 1): 21,
    ("table", "deeper", "list", 1, "x"): 21,
    ("table", "deeper", "list", 2): 22,
    ("table", "deeper", "list", 2, 0): 22,
    ("table", "deeper", "list", 2, 1): 22,
    ("table", "deeper", "list", 2, 2): 23,
    ("many", 0): 26,
    ("many", 0, "first"): 27,
    ("many", 1): 28,
    ("many", 1, "second"): 29,
    ("many", 1, "below"): 30,
    ("many", 1, "below", "third"): 31,
    ("many", 2): 32,
}


def test_every_key_table_and_element_is_found_on_its_line() -> None:
    tomllib.loads(TEXT)
    assert dict(KeyLines(TEXT).found) == LINES


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("table", "indented", "absent"), 9),
        (("table", "absent"), 5),
        (("table", "deeper", "list", 7), 19),
        (("a",), 3),  # a table without a header stands where its first key does
        (("a", "absent"), 3),
        (("absent", "deeper"), 1),
        ((), 1),
    ],
)
def test_what_has_no_line_of_its_own_gets_that_of_the_table_around_it(path: tuple[str], line: int) -> None:
    assert KeyLines(TEXT)[path] == line


def test_what_is_given_twice_is_found_with_both_lines() -> None:
    text = "a = 1\n[t]\nb = 2\nc = { d = 1, d = 2 }\nb = 3\n[t]\n"
    assert KeyLines(text).repeated() == [(("t", "c", "d"), 4, 4), (("t", "b"), 5, 3), (("t",), 6, 2)]


@given(st.text("[]{}=.,'\"\\#\n ab1", max_size=40))
def test_no_text_makes_it_fail(text: str) -> None:
    KeyLines(text)


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)
leaves = st.booleans() | st.integers(-5, 5) | names
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


def inline(value: object) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inline(key)} = {inline(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def places(value: object, path: tuple[str | int, ...]) -> set[tuple[str | int, ...]]:
    """Every key and element in a value that was parsed."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path}.union(*(places(deeper, (*path, key)) for key, deeper in inner))


@settings(deadline=None)
@given(st.dictionaries(names, st.dictionaries(names, values, max_size=4), max_size=4))
def test_what_the_parser_reads_is_found_on_the_line_that_holds_it(
    document: dict[str, dict[str, object]],
) -> None:
    lines, expected = [], {}
    for table, keys in document.items():
        lines.append(f"[{inline(table)}]")
        expected[(table,)] = len(lines)
        for key, value in keys.items():
            lines.append(f"{inline(key)} = {inline(value)}")
            expected |= dict.fromkeys(places(value, (table, key)), len(lines))
    text = "\n".join(lines)
    assert tomllib.loads(text) == document
    assert dict(KeyLines(text).found) == expected
