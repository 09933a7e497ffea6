"""How many cores there are for us, by what was told of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from privynet.device_profiles.measuring import usable_cores


@pytest.mark.parametrize(
    ("machine", "cores"),
    [
        ({"cpus": 8, "affinity": [4, 5]}, 2),
        ({"cpus": 8, "affinity": None}, 8),
        ({"cpus": 8}, 8),
        ({"cpus": None, "affinity": None}, 1),
        ({}, 1),
    ],
)
def test_usable_cores_are_those_that_the_process_may_run_on(machine: dict[str, Any], cores: int) -> None:
    assert usable_cores(machine) == cores
