"""Which parameters of the search space make a difference to accuracy and to privacy loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .trial_rows import PARAMETERS, Row, cut_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

Measure = Literal["accuracy", "r2"]

LEAST_CANDIDATES = 10
"""Of fewer no forest learns anything."""

_MOST_CANDIDATES = 1000
_FOLDS, _TREES, _SHUFFLES = 5, 60, 10


@dataclass(frozen=True)
class Parameter:
    """A parameter's share of what all parameters together explain; ``None`` where they explain nothing."""

    name: str
    accuracy: float | None
    r2: float | None


@dataclass(frozen=True)
class Importance:
    """``explained``: the share of a measure's variance that forests explain of what they had not seen."""

    parameters: tuple[Parameter, ...]
    candidates: int
    explained: Mapping[Measure, float]


def importance(result: Mapping[str, Any], rows: Sequence[Row]) -> Importance | None:
    """Permutation importance (Breiman, *Random Forests*, 2001, section 10) of the parameters that vary.

    A random forest learns a measure from the parameters of four fifths of the candidates. On the last fifth,
    each parameter's values are shuffled in turn: by how much the squared error grows is what the parameter
    counts, summed over all five such splits, as a share of all parameters' sum. ``rows``: one for each
    evaluated candidate; ``None`` where they are fewer than ``LEAST_CANDIDATES``, or differ in nothing.
    """
    import numpy as np

    if len(rows) < LEAST_CANDIDATES:
        return None
    if len(rows) > _MOST_CANDIDATES:
        chosen = np.random.default_rng(result["seed"]).choice(len(rows), _MOST_CANDIDATES, replace=False)
        rows = [rows[index] for index in sorted(chosen)]
    names, values = _varying(result, rows)
    if not names:
        return None
    shares: dict[Measure, list[float | None]] = {}
    explained: dict[Measure, float] = {}
    for measure in ("accuracy", "r2"):
        found = np.array([row.figures[measure].value for row in rows])
        shares[measure], explained[measure] = _shares(values, found, seed=result["seed"])
    parameters = [
        Parameter(name, accuracy, r2)
        for name, accuracy, r2 in zip(names, shares["accuracy"], shares["r2"], strict=True)
    ]
    parameters.sort(key=lambda one: -((one.accuracy or 0.0) + (one.r2 or 0.0)))
    return Importance(tuple(parameters), len(rows), explained)


def _varying(result: Mapping[str, Any], rows: Sequence[Row]) -> tuple[list[str], NDArray[Any]]:
    """The parameters with more than one value, and the candidates' values as numbers, (n, parameters).

    A cut counts by its depth, channels by their logarithm; of names a forest needs no
    more than that they differ.
    """
    import numpy as np

    order = cut_order(result, rows)
    policies = sorted({row.document["policy"] for row in rows})

    def number(row: Row, name: str) -> float:
        value = row.document[name]
        if name == "cut":
            cuts = order[row.site]
            return cuts.index(value) / max(1, len(cuts) - 1)
        if name == "policy":
            return float(policies.index(value))
        return math.log2(value) if name == "channels" else float(value)

    table = np.array([[number(row, name) for name in PARAMETERS] for row in rows])
    varying = [place for place in range(len(PARAMETERS)) if np.ptp(table[:, place]) > 0]
    return [PARAMETERS[place] for place in varying], table[:, varying]


def _shares(values: NDArray[Any], found: NDArray[Any], *, seed: int) -> tuple[list[float | None], float]:
    """Each column's share, and the explained variance."""
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    generator = np.random.default_rng(seed)
    columns = values.shape[1]
    grown, wrong = np.zeros(columns), 0.0
    for known, held_out in KFold(_FOLDS, shuffle=True, random_state=seed).split(values):
        forest = RandomForestRegressor(_TREES, random_state=seed).fit(values[known], found[known])
        error = float(((forest.predict(values[held_out]) - found[held_out]) ** 2).sum())
        wrong += error
        shuffled = np.tile(values[held_out], (columns, _SHUFFLES, 1, 1))
        for column in range(columns):
            generator.permuted(shuffled[column, :, :, column], axis=1, out=shuffled[column, :, :, column])
        # At once: a call costs more than its rows.
        predicted = forest.predict(shuffled.reshape(-1, columns)).reshape(columns, _SHUFFLES, -1)
        grown += ((predicted - found[held_out]) ** 2).sum(axis=2).mean(axis=1) - error
    spread = float(((found - found.mean()) ** 2).sum())
    explained = 1 - wrong / spread if spread else 0.0
    grown = grown.clip(min=0)
    if explained <= 0 or not grown.any():
        return [None] * columns, explained
    return [float(share) for share in grown / grown.sum()], explained
