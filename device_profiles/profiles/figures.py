"""Figures that can be traced: each with its unit, its source, and whether anyone measured it."""

from __future__ import annotations

from typing import Annotated, Generic, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeVar

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Kind = Literal["measured", "published", "estimated"]
# Strict, so that neither "4" nor true passes for a number; integers still do.
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


class Section(BaseModel):
    """Frozen, and closed: a key that is not known is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Unit = TypeVar("Unit", bound=str, default=str)


class Figure(Section, Generic[Unit]):
    """A number that can be traced: where it comes from, and whether anyone measured it.

    ``Figure[Literal["ms"]]`` is one in that unit, zero allowed.
    """

    value: NonNegative
    unit: Unit
    source: Text
    kind: Kind


class Amount(Figure[Unit], Generic[Unit]):
    """A figure for which zero makes no sense."""

    value: Positive


class Count(Figure[Unit], Generic[Unit]):
    """A figure that counts: a whole number, one or more."""

    value: Annotated[Positive, Field(multiple_of=1)]


class Spread(Figure[Unit], Generic[Unit]):
    """A figure with the interval it is expected in."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Spread[Unit]:
        if not self.low <= self.value <= self.high:
            raise failure("low <= value <= high does not hold", at="value")
        return self


def failure(message: str, *, at: str | None = None) -> PydanticCustomError:
    """What a validator raises; ``at`` is the key that is to blame, in what the validator is for."""
    return PydanticCustomError("profile", "{text}", {"text": message, "at": at})
