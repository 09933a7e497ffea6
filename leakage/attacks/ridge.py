"""The ridge attack: the best linear reconstruction in closed form, which shows what needs no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...progress import SILENT, Progress
from ..view import Knowledge, View

if TYPE_CHECKING:
    from ..decoders import Ridge


@dataclass(frozen=True)
class RidgeAttack:
    """Ridge regression from features to pixels, by ``fit_ridge``."""

    name: str = "ridge"
    knows: tuple[Knowledge, ...] = ("pairs",)

    def fit(
        self,
        view: View,
        *,
        seed: int = 0,
        budget_s: float = 60.0,
        accelerator: str = "auto",
        progress: Progress = SILENT,
    ) -> Ridge:
        """Fit the reconstruction; see ``fit_ridge``."""
        from ..decoders import fit_ridge

        assert view.pairs is not None
        train, val = view.pairs
        return fit_ridge(train, val, seed=seed, budget_s=budget_s, accelerator=accelerator, progress=progress)


RIDGE = RidgeAttack()
