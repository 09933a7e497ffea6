"""All that the closed forms need of one cut, kept together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...encoders import Splitter, fisher_scores
from ...progress import SILENT, Progress
from .class_moments import ClassMoments
from .closed_forms import Selection, leakage, utility
from .features import FeatureStore
from .image_moments import ImageMoments

IMAGES = {"head-train": 4000, "select": 2000, "attack-train": 2000, "attack-val": 500}
"""The splits that moments are taken of, the first two for the class, the others for the image, and of how
many images at most: sums over more would hardly differ."""

FILES = (
    "fisher.npy",
    *(
        f"{part}.{field.name}.npy"
        for part, kind in (("classes", ClassMoments), ("images", ImageMoments))
        for field in fields(kind)
    ),
)
_VERSION = 3
"""Of how moments are taken; another one makes other cache entries."""


@dataclass(frozen=True)
class CutMoments:
    """Utility and leakage of any selection of one cut's channels."""

    classes: ClassMoments
    images: ImageMoments
    fisher: NDArray[np.float64]
    """(C,): Fisher's discriminant of each channel."""

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
        """Take the moments of a cut from its features (n, C, h, w) of each split of ``IMAGES``.

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
            fisher_scores(features["head-train"], labels["head-train"]),
        )

    @property
    def channels(self) -> int:
        """C, of the cut."""
        return self.images.channels

    @property
    def bytes(self) -> int:
        """What the arrays take, about."""
        parts = [*vars(self.classes).values(), *vars(self.images).values(), self.fisher]
        return sum(part.nbytes for part in parts if isinstance(part, np.ndarray))

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
            value: Any = self
            for attribute in name.removesuffix(".npy").split("."):
                value = getattr(value, attribute)
            with (folder / name).open("wb") as file:
                np.save(file, value, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> CutMoments:
        """Map what ``save`` wrote into memory: only what a selection needs is read."""
        parts: dict[str, dict[str, Any]] = {"classes": {}, "images": {}, "": {}}
        for name in FILES:
            part, _, field = name.removesuffix(".npy").rpartition(".")
            value = np.load(folder / name, mmap_mode="r", allow_pickle=False)
            parts[part][field] = value if value.ndim else value.item()
        return cls(ClassMoments(**parts["classes"]), ImageMoments(**parts["images"]), **parts[""])


def cut_moments(
    store: FeatureStore, splitter: Splitter, cut: str, *, progress: Progress = SILENT
) -> CutMoments:
    """The moments of a cut, from the store's cache; taken where they are not there yet.

    The store must hold the splits of ``IMAGES``. Raises as ``FeatureStore.features``.
    """
    take_moments(store, splitter, [cut], progress=progress)
    return CutMoments.load(store.cache.folder_of(_key(store, splitter, cut)))


def take_moments(
    store: FeatureStore, splitter: Splitter, cuts: Sequence[str], *, progress: Progress = SILENT
) -> None:
    """Take the moments of those of these cuts that are not in the store's cache yet, all in few passes.

    Interrupted, it goes on after the last cut that was done. Raises as ``FeatureStore.features``.
    """
    keys = {cut: _key(store, splitter, cut) for cut in cuts}
    missing = [cut for cut, key in keys.items() if not store.cache.holds(key, FILES, progress=progress)]
    if not missing:
        return
    labels = {name: store.splits[name].labels[:count] for name, count in IMAGES.items()}
    images = {name: store.images(name)[: IMAGES[name]] for name in ("attack-train", "attack-val")}
    for cut, features in store.sweep(splitter, missing, IMAGES, progress=progress):
        moments = CutMoments.of_cut(features, labels, images, classes=len(store.data.classes))
        store.cache.files(keys[cut], moments.save, needed=FILES, needs_bytes=moments.bytes)


def key_of_moments(store: FeatureStore, splitter: Splitter, cut: str) -> dict[str, Any]:
    """Of which backbone, images and cut moments are, as part of a cache key."""
    counts = {name: min(count, len(store.splits[name])) for name, count in IMAGES.items()}
    return {
        **store.identity(splitter, counts),
        "cut": cut,
        "image_size": store.data.reference_size,
        "moments": _VERSION,
    }


def _key(store: FeatureStore, splitter: Splitter, cut: str) -> dict[str, Any]:
    return {**key_of_moments(store, splitter, cut), "what": "moments"}
