"""The sets that torchvision reads, each file checked against its published checksum where it has one."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..progress import SILENT, Progress
from .arrays import ArrayImages
from .dataset import DataSet


@dataclass(frozen=True)
class _Published:
    reader: str
    """The class in ``torchvision.datasets``."""
    folder: str
    """The folder, in torchvision's own layout, that holds its files."""
    class_groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Attributes that follow from the class: by name, the group of each class in torchvision's order."""


# airplane, automobile; bird, cat, deer, dog, frog, horse; ship, truck
_ANIMAL = ("vehicle",) * 2 + ("animal",) * 6 + ("vehicle",) * 2
# of T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot
_FOOTWEAR = tuple("footwear" if label in (5, 7, 9) else "other" for label in range(10))


SETS = {
    "cifar10": _Published("CIFAR10", "cifar-10-batches-py", {"animal": _ANIMAL}),
    "cifar100": _Published("CIFAR100", "cifar-100-python"),
    "fashion-mnist": _Published("FashionMNIST", "FashionMNIST", {"footwear": _FOOTWEAR}),
}
"""The source strings this module opens."""


def open_published(name: str, *, progress: Progress = SILENT) -> DataSet:
    """The published set ``name``, from ``$PRIVYNET_DATA`` or the user's cache folder, else downloaded there.

    Raises ``InputError`` when the files under ``$PRIVYNET_DATA`` are damaged, and when they are nowhere and
    cannot be downloaded.
    """
    with progress.task(f"reading {name}"):
        train, test = _read(name)
        pixels = _joined(train.data, test.data)
        labels = np.concatenate([np.asarray(part.targets, np.int64) for part in (train, test)])
        official_test = np.arange(len(labels)) >= len(train.targets)
        classes = tuple(train.classes)
        del train, test
        images = ArrayImages(pixels)
        return DataSet.build(
            name,
            images,
            hashes=images.hashes(),
            labels=labels,
            classes=classes,
            official_test=official_test,
            reference_size=32,
            class_groups=SETS[name].class_groups,
        )


def _joined(train: Any, test: Any) -> NDArray[np.uint8]:
    """Both halves, (n, H, W) tensors or (n, H, W, 3) arrays, as one array (N, H, W, 1 or 3)."""
    pixels = np.empty((len(train) + len(test), *train.shape[1:]), np.uint8)
    pixels[: len(train)] = train
    pixels[len(train) :] = test
    return pixels if pixels.ndim == 4 else pixels[..., None]


def _read(name: str) -> tuple[Any, Any]:
    """The training and test halves as torchvision's objects."""
    folder = SETS[name].folder
    given = os.environ.get("PRIVYNET_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "privynet" / "data"
    root = Path(given).expanduser() if given else cache
    if not (root / folder).exists():
        root = cache
    if not (root / folder).exists():
        try:
            _download(name, cache)
        except (RuntimeError, OSError) as error:
            where = f"it is not under PRIVYNET_DATA={given}" if given else "PRIVYNET_DATA is not set"
            reason = " ".join(str(error).split())
            raise InputError(
                f"{name} cannot be downloaded, and {where} ({reason[:200]})",
                hint=f"set PRIVYNET_DATA to a folder that holds {folder}/ in torchvision's layout",
            ) from error
    try:
        return _halves(name, root, download=False)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"{name}: the files under {root / folder} are incomplete or damaged",
            hint="remove them, so that they are downloaded again, or set PRIVYNET_DATA to a complete copy",
        ) from error


def _download(name: str, cache: Path) -> None:
    """Put the set under ``cache``, whole or not at all."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".partial-") as temporary:
        # torchvision may print; standard output belongs to the result.
        with contextlib.redirect_stdout(sys.stderr):
            _halves(name, Path(temporary), download=True)
        Path(temporary, SETS[name].folder).rename(cache / SETS[name].folder)


def _halves(name: str, root: Path, *, download: bool) -> tuple[Any, Any]:
    from torchvision import datasets

    reader = getattr(datasets, SETS[name].reader)
    return reader(root, train=True, download=download), reader(root, train=False, download=download)
