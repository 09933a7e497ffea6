"""The frozen backbone's features of each cut, computed once and kept on disk."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..artifacts import replace_file
from ..data import DataSet, Split
from ..encoders import Splitter, make_encoder
from ..progress import SILENT, Progress, Task

MAX_CACHE_BYTES = 8 * 2**30
"""When the cache grows beyond this, the files used longest ago go first."""

_HALF_MAX = float(np.finfo(np.float16).max)


class FeatureStore:
    """Features of whole cuts (float16, memory-mapped), by backbone, input size, cut and split."""

    def __init__(
        self, folder: Path, splits: Mapping[str, Split], data: DataSet, *, accelerator: str = "auto"
    ) -> None:
        self.folder, self.splits, self.data, self.accelerator = folder, splits, data, accelerator

    def features(
        self, splitter: Splitter, cut: str, split: str, *, progress: Progress = SILENT
    ) -> NDArray[np.float16]:
        """The features of all channels at ``cut`` for the images of ``split``: float16 (n, C, h, w).

        The splitter's backbone must have its weights loaded.
        """
        path = self.folder / f"{self._key(splitter, cut, split)}.npy"
        if not path.exists():
            self._compute(splitter, cut, split, path, progress)
        os.utime(path)
        mapped: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped

    def _key(self, splitter: Splitter, cut: str, split: str) -> str:
        backbone = splitter.backbone
        identity = {
            "weights": backbone.weights_digest,
            "architecture": backbone.name.architecture,
            "preprocessing": [*backbone.mean, *backbone.std],
            "input_size": splitter.input_size,
            "cut": cut,
            "data": self.data.digest,
            "split": split,
            "n": len(self.splits[split]),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]

    def _compute(self, splitter: Splitter, cut: str, split: str, path: Path, progress: Progress) -> None:
        from ..leakage.accelerators import torch_device

        # A copy: whole tensors are shared with the splitter, which stays where it is.
        encoder = copy.deepcopy(make_encoder(splitter, cut=cut)).to(torch_device(self.accelerator))
        images = self.splits[split]
        shape = (len(images), *encoder.feature_shape)
        self._make_room(2 * int(np.prod(shape)))
        peak = 0.0

        def halves() -> Iterator[NDArray[np.float16]]:
            nonlocal peak
            for batch in images.batches(splitter.input_size):
                features = encoder.encode(batch)
                peak = max(peak, float(np.abs(features).max()))
                yield np.clip(features, -_HALF_MAX, _HALF_MAX).astype(np.float16)

        with replace_file(path) as temporary, progress.task(f"features of {cut}", len(images)) as task:
            write_array(temporary, shape, np.float16, halves(), task=task)
        if peak > _HALF_MAX:
            progress.warn(
                f"features of {cut} reach {peak:.3g}; trials see them clipped at {_HALF_MAX:.0f}, "
                "the certification as they are"
            )

    def _make_room(self, needed: int) -> None:
        files = sorted(self.folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
        total = needed + sum(file.stat().st_size for file in files)
        for file in files:
            if total <= MAX_CACHE_BYTES:
                break
            total -= file.stat().st_size
            file.unlink()


def write_array(
    path: Path,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    batches: Iterable[NDArray[Any]],
    *,
    task: Task,
) -> None:
    """Write batches of rows as one .npy file, to be memory-mapped; ``task`` advances by their rows.

    Written, not memory-mapped: a disk that fills up under a mapping kills the process.
    """
    stored = np.dtype(dtype).newbyteorder("<")
    with path.open("wb") as file:
        header = {"descr": stored.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            file.write(batch.astype(stored).tobytes())
            task.advance(len(batch))
