"""Private attributes: what else an image shows, beside its class, that an attacker may want to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, unknown

RESERVED = "label"
"""No attribute may have this name: it means the class."""

HINT = (
    "give some: folder:PATH may hold attributes.csv (file,NAME,...), npz:PATH arrays attribute_NAME; "
    "cifar10, fashion-mnist and digits have their own"
)


@dataclass(frozen=True, eq=False)
class Attribute:
    """One attribute of all N images of a data set."""

    name: str
    classes: tuple[str, ...]
    """Its values' names, at least two."""
    values: NDArray[np.int64] = field(repr=False)
    """(N,) positions in ``classes``."""

    @classmethod
    def build(cls, name: str, values: NDArray[Any], *, source: str) -> Attribute:
        """From the values (N,) themselves, whole numbers or names; the classes are those that occur, sorted.

        Raises ``InputError``, which names ``source``, for a name that cannot be used, a value that is empty
        or cannot be printed, and fewer than two different values.
        """
        check_name(name, source)
        found, positions = np.unique(values, return_inverse=True)
        classes = tuple(str(value) for value in found)
        for value in classes:
            if not value or not value.isprintable():
                what = f"the value {value!r}" if value else "an empty value"
                raise InputError(f"{source}: attribute {name!r} has {what}", hint="give every image a name")
        if len(classes) < 2:
            same = f"only the value {classes[0]!r}" if classes else "no value"
            raise InputError(f"{source}: attribute {name!r} has {same}", hint="at least two are needed")
        kept = positions.astype(np.int64)
        kept.setflags(write=False)
        return cls(name, classes, kept)


def check_name(name: str, source: str) -> None:
    """Raise ``InputError`` for a name that no attribute may have."""
    if not name or not name.isprintable() or name == RESERVED:
        raise InputError(
            f"{source}: {name!r} cannot name an attribute", hint=f"any printable name but {RESERVED!r} can"
        )


def find(attributes: Mapping[str, Attribute], name: str) -> Attribute:
    """The attribute of this name; ``InputError`` if there is none."""
    if not attributes:
        raise InputError(f"the data have no attributes, so no {name!r}", hint=HINT)
    if name not in attributes:
        raise unknown("attribute", name, attributes)
    return attributes[name]
