"""The CPUs that a measurement is pinned to, as the command line writes them."""

from __future__ import annotations

import re

from ...errors import InputError

LARGEST_CPU = 4095


def parse_cpus(text: str) -> tuple[int, ...]:
    """CPU numbers in ascending order: ``4-7``, ``0,2`` or ``0,4-7``. Raises :class:`InputError`."""
    cpus: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,4})\s*(?:-\s*(\d{1,4})\s*)?", part, re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last or last > LARGEST_CPU:
            raise InputError(f"affinity {text!r} is no list of CPUs", hint="write them as 4-7 or 0,2")
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))
