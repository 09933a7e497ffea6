from __future__ import annotations

import pytest

from privynet.device_profiles import parse_cpus
from privynet.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", (3,)), ("0,2", (0, 2)), ("4-7", (4, 5, 6, 7)), ("6, 0-1", (0, 1, 6)), ("2,1-2", (1, 2))],
)
def test_cpus_are_listed_in_order_and_once(text: str, expected: tuple[int, ...]) -> None:
    assert parse_cpus(text) == expected


@pytest.mark.parametrize("text", ["", ",", "1,", "-1", "3-1", "big", "1.5", "0-99999", "\u0661"])
def test_what_is_no_list_of_cpus_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="is no list of CPUs; write them as"):
        parse_cpus(text)
