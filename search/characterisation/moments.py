"""All that the closed forms need of one cut, kept together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ...encoders import Splitter, fisher_scores
from ...progress import SILENT, Progress
from .class_moments import ClassMoments
from .closed_forms import Selection, leakage, utility
from .features import FeatureStore
from .image_moments import ImageMoments

IMAGES = {"head-train": 4000, "select": 2000, "attack-train": 2000, "attack-val": 500}
"""The splits that moments are taken of, the first two for the class, the others for the image, and of how
many images at most: sums over more would hardly differ."""

_VERSION = 4
"""Of how moments are taken; another one makes other cache entries."""
_SUFFIX = ".safetensors"
_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}


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

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        arrays: dict[str, Any] = {"fisher": self.fisher}
        for part in ("classes", "images"):
            arrays |= {f"{part}.{name}": value for name, value in vars(getattr(self, part)).items()}
        save_file({name: np.array(value, order="C") for name, value in arrays.items()}, path)

    @classmethod
    def load(cls, path: Path) -> CutMoments:
        """Map what ``save`` wrote into memory: only what a selection needs is read."""
        parts: dict[str, dict[str, Any]] = {"classes": {}, "images": {}, "": {}}
        for name, value in _mapped(path).items():
            part, _, field = name.rpartition(".")
            parts[part][field] = value if value.ndim else value.item()
        return cls(ClassMoments(**parts["classes"]), ImageMoments(**parts["images"]), **parts[""])


def _mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file, all of them views of one mapping: a search has many cuts at hand, and
    a process may have few files open."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    data = np.memmap(path, np.uint8, mode="r", offset=8 + length)
    return {
        name: data[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def cut_moments(
    store: FeatureStore, splitter: Splitter, cut: str, *, progress: Progress = SILENT
) -> CutMoments:
    """The moments of a cut, from the store's cache; taken where they are not there yet.

    The store must hold the splits of ``IMAGES``. Raises as ``FeatureStore.features``.
    """
    take_moments(store, splitter, [cut], progress=progress)
    return CutMoments.load(store.cache.path(_key(store, splitter, cut), suffix=_SUFFIX))


def take_moments(
    store: FeatureStore, splitter: Splitter, cuts: Sequence[str], *, progress: Progress = SILENT
) -> None:
    """Take the moments of those of these cuts that are not in the store's cache yet, all in few passes.

    Interrupted, it goes on after the last cut that was done. Raises as ``FeatureStore.features``.
    """
    keys = {cut: _key(store, splitter, cut) for cut in cuts}

    def missing(progress: Progress) -> list[str]:
        return [cut for cut in cuts if not store.cache.holds(keys[cut], suffix=_SUFFIX, progress=progress)]

    if not missing(progress):
        return
    labels = {name: store.splits[name].labels for name in ("head-train", "select")}
    images = {name: store.images(name) for name in ("attack-train", "attack-val")}
    # Another process may be at the same cuts: its look at them serves both.
    with store.cache.alone({**keys[cuts[0]], "cuts": list(cuts)}, progress=progress):
        for cut, features in store.sweep(splitter, missing(SILENT), IMAGES, progress=progress):
            seen = {name: len(values) for name, values in features.items()}
            moments = CutMoments.of_cut(
                features,
                {name: values[: seen[name]] for name, values in labels.items()},
                {name: values[: seen[name]] for name, values in images.items()},
                classes=len(store.data.classes),
            )
            # Before the next ones are made.
            features.clear()
            store.cache.file(
                keys[cut], moments.save, suffix=_SUFFIX, needs_bytes=moments.bytes, progress=progress
            )


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
