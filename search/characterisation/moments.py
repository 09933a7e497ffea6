"""All that the closed forms need of one cut, kept together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...encoders import Splitter
from ...progress import SILENT, Progress
from .class_moments import ClassMoments
from .closed_forms import Selection, leakage, utility
from .features import FeatureStore
from .image_moments import ImageMoments

SPLITS = ("head-train", "select", "attack-train", "attack-val")
"""The splits that moments are taken of: the first two for the class, the others for the image."""

FILES = tuple(
    f"{part}.{field.name}.npy"
    for part, kind in (("classes", ClassMoments), ("images", ImageMoments))
    for field in fields(kind)
)
_VERSION = 1
"""Of how moments are taken; another one makes other cache entries."""


@dataclass(frozen=True)
class CutMoments:
    """Utility and leakage of any selection of one cut's channels."""

    classes: ClassMoments
    images: ImageMoments

    @classmethod
    def of_cut(
        cls,
        features: Mapping[str, NDArray[Any]],
        labels: Mapping[str, NDArray[np.int64]],
        images: Mapping[str, NDArray[np.uint8]],
        *,
        classes: int,
        seed: int = 0,
    ) -> CutMoments:
        """Take the moments of a cut from its features (n, C, h, w) of each of ``SPLITS``.

        ``labels``: of head-train and select. ``images``: uint8 (n, R, R, 3) of attack-train and attack-val.
        """
        return cls(
            ClassMoments.of_features(
                features["head-train"],
                labels["head-train"],
                features["select"],
                labels["select"],
                classes=classes,
                seed=seed,
            ),
            ImageMoments.of_pairs(
                features["attack-train"],
                images["attack-train"],
                features["attack-val"],
                images["attack-val"],
                seed=seed,
            ),
        )

    @property
    def channels(self) -> int:
        """C, of the cut."""
        return self.images.channels

    def utility(
        self,
        selection: Selection,
        *,
        noise_std: float = 0.0,
        scored_on: Literal["select", "val"] = "select",
    ) -> float:
        """The closed-form accuracy, see ``closed_forms.utility``."""
        return utility(self.classes, selection, noise_std=noise_std, scored_on=scored_on)

    def leakage(self, selection: Selection, *, noise_std: float = 0.0) -> float:
        """The closed-form r2 on ``attack-val``, see ``closed_forms.leakage``."""
        return leakage(self.images, selection, noise_std=noise_std)

    def save(self, folder: Path) -> None:
        """Write ``FILES``, one array each."""
        for name in FILES:
            part, field, _ = name.split(".")
            with (folder / name).open("wb") as file:
                np.save(file, getattr(getattr(self, part), field), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> CutMoments:
        """Map what ``save`` wrote into memory: only what a selection needs is read."""
        parts: dict[str, dict[str, Any]] = {"classes": {}, "images": {}}
        for name in FILES:
            part, field, _ = name.split(".")
            value = np.load(folder / name, mmap_mode="r", allow_pickle=False)
            parts[part][field] = value if value.ndim else value.item()
        return cls(ClassMoments(**parts["classes"]), ImageMoments(**parts["images"]))


def cut_moments(
    store: FeatureStore, splitter: Splitter, cut: str, *, progress: Progress = SILENT
) -> CutMoments:
    """The moments of a cut, from the store's cache; taken from its features where they are not there yet.

    The store must hold ``SPLITS``. Raises as ``FeatureStore.features``.
    """
    key = {
        **store.identity(splitter, *SPLITS),
        "what": "moments",
        "cut": cut,
        "image_size": store.data.reference_size,
        "version": _VERSION,
    }

    def build(folder: Path) -> None:
        features = {name: store.features(splitter, cut, name, progress=progress) for name in SPLITS}
        with progress.task(f"moments of {cut}"):
            CutMoments.of_cut(
                features,
                {name: store.splits[name].labels for name in SPLITS[:2]},
                {name: store.images(name) for name in SPLITS[2:]},
                classes=len(store.data.classes),
            ).save(folder)

    return CutMoments.load(store.cache.files(key, build, needed=FILES, progress=progress))
