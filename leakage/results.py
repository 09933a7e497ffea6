"""What attacks recovered: documents and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .measures import ImageScores, Recovery
from .view import Knowledge


@dataclass(frozen=True)
class AttackResult:
    """One attack on one encoder. ``fit`` is the fitted attack's own document."""

    attack: str
    knows: tuple[Knowledge, ...]
    image_scores: ImageScores
    fit: Mapping[str, Any]
    reconstructions: NDArray[np.uint8] = field(repr=False)
    """uint8 (n, R, R, 3)."""
    seed: int = 0

    @cached_property
    def scores(self) -> Recovery:
        """The scores over all images; the seed is that of the intervals too."""
        return self.image_scores.summary(seed=self.seed)

    def document(self) -> dict[str, Any]:
        """As in an audit's ``attacks``."""
        return {
            "attack": self.attack,
            "knows": list(self.knows),
            **self.scores.document(),
            "fit": dict(self.fit),
            "seed": self.seed,
        }


class ResultStore(Protocol):
    """Where finished attacks are kept, so that an interrupted audit goes on after the last one."""

    def load(self, attack: str) -> AttackResult | None:
        """The result of the attack with this name, if it has finished."""
        ...

    def save(self, result: AttackResult) -> None:
        """Keep a result."""
        ...


@dataclass(frozen=True)
class Leakage:
    """What the attacks recovered from the test images, beside what can be guessed without the features."""

    attacks: tuple[AttackResult, ...]
    blind: Recovery
    label_only: Recovery

    @property
    def strongest(self) -> AttackResult:
        """The attack with the highest r2."""
        return max(self.attacks, key=lambda result: result.scores.r2.value)

    @property
    def scores(self) -> Recovery:
        """The strongest attack's scores."""
        return self.strongest.scores

    @property
    def reconstructions(self) -> NDArray[np.uint8]:
        """The strongest attack's images, uint8 (n, R, R, 3)."""
        return self.strongest.reconstructions

    def document(self) -> dict[str, Any]:
        """``strongest`` and ``strongest_pairs_only`` (a score and its attack per measure), floors, attacks.

        ``strongest_pairs_only`` is ``None`` where no such attack was run.
        """
        pairs_only = [result for result in self.attacks if result.knows == ("pairs",)]
        return {
            "strongest": _strongest(self.attacks),
            "strongest_pairs_only": _strongest(pairs_only) if pairs_only else None,
            "blind": self.blind.document(),
            "label_only": self.label_only.document(),
            "attacks": [result.document() for result in self.attacks],
        }


def _strongest(results: Iterable[AttackResult]) -> dict[str, Any]:
    """For each measure the highest score and the attack that reached it."""
    documents = [(result.attack, result.scores.document()) for result in results]
    strongest = {}
    for measure in documents[0][1]:
        attack, scores = max(documents, key=lambda pair: pair[1][measure]["value"])
        strongest[measure] = {**scores[measure], "attack": attack}
    return strongest
