from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from privynet.device_profiles.profiles.toml_lines import key_lines, line_of

TEXT = """# a comment = 1
name = "x"
a.b = 2

[table]   # the table
key = 'value = 3'
"quoted.key" = 4
  indented = { inner = 5 }

[table.deeper]
list = [
  1,
]
"""


def test_keys_and_tables_are_found_on_their_lines() -> None:
    assert key_lines(TEXT) == {
        ("name",): 2,
        ("a", "b"): 3,
        ("table",): 5,
        ("table", "key"): 6,
        ("table", "quoted.key"): 7,
        ("table", "indented"): 8,
        ("table", "deeper"): 10,
        ("table", "deeper", "list"): 11,
    }


def test_what_has_no_line_of_its_own_gets_that_of_the_table_around_it() -> None:
    assert line_of(TEXT, ("table", "indented", "inner")) == 8
    assert line_of(TEXT, ("table", "absent")) == 5
    assert line_of(TEXT, ("absent",)) is None


NAMES = st.text("abcdefgh-_0123456789", min_size=1, max_size=8)


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(), min_size=1), min_size=1))
def test_every_key_of_a_plain_file_is_on_the_line_that_holds_it(document: dict[str, dict[str, int]]) -> None:
    lines = []
    for table, keys in document.items():
        lines.append(f"[{table}]")
        lines.extend(f"{key} = {value}" for key, value in keys.items())
    text = "\n".join(lines)
    assert tomllib.loads(text) == document
    for table, keys in document.items():
        for key, value in keys.items():
            line = line_of(text, (table, key))
            assert line is not None
            assert lines[line - 1] == f"{key} = {value}"
