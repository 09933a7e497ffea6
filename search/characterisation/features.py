"""The frozen backbone's features of every cut, computed in one pass and kept in the cache."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...data import DataSet, Split
from ...encoders import Splitter
from ...errors import PrivynetError
from ...progress import SILENT, Progress, Task
from .cache import Cache

_VERSION = 1
"""Of what the files hold; another one makes other entries."""
_HALF_MAX = float(np.finfo(np.float16).max)
_BATCH, _BATCH_VALUES = 256, 2**26
"""Images of a batch, fewer where their features of all cuts would be more than this many values."""


class FeatureStore:
    """Features of whole cuts (float16, memory-mapped), by backbone, input size, split and cut.

    ``cuts`` says which cuts of a splitter are of interest: those are computed together in one pass (default:
    all), another one by itself when it is asked for. Where those of interest would not fit into the cache,
    each is computed by itself.
    """

    def __init__(
        self,
        cache: Cache,
        splits: Mapping[str, Split],
        data: DataSet,
        *,
        accelerator: str = "auto",
        cuts: Callable[[Splitter], Sequence[str]] | None = None,
    ) -> None:
        self.cache, self.splits, self.data, self.accelerator = cache, splits, data, accelerator
        self._of_interest = cuts or (lambda splitter: [cut.name for cut in splitter.cuts])
        self._images: dict[str, NDArray[np.uint8]] = {}
        self._together: dict[int, bool] = {}

    def features(
        self, splitter: Splitter, cut: str, split: str, *, progress: Progress = SILENT
    ) -> NDArray[np.float16]:
        """The features of all channels at ``cut`` for the images of ``split``: float16 (n, C, h, w).

        The splitter's backbone must have its weights loaded. Raises ``InputError`` when there is no such cut
        or the cache cannot be written, ``PrivynetError`` when its disk is full.
        """
        splitter.cut(cut)
        together = list(self._of_interest(splitter))
        if cut not in together or not self._fit(splitter, together, progress):
            together = [cut]
        key = {**self.identity(splitter, split), "what": "features", "cuts": together, "version": _VERSION}
        name = f"{together.index(cut):03d}.npy"
        folder = self.cache.files(
            key,
            lambda to: self._compute(splitter, together, split, to, progress),
            needed=[name],
            needs_bytes=self._bytes(splitter, together, [split]),
            progress=progress,
        )
        mapped: NDArray[np.float16] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        return mapped

    def images(self, split: str) -> NDArray[np.uint8]:
        """The images of ``split`` at the reference size R, uint8 (n, R, R, 3); kept in memory."""
        if split not in self._images:
            self._images[split] = self.splits[split].images(self.data.reference_size)
        return self._images[split]

    def identity(self, splitter: Splitter, *splits: str) -> dict[str, Any]:
        """The part of a cache key that says of which backbone, input size and images something is."""
        backbone = splitter.backbone
        return {
            "backbone": backbone.name.architecture,
            "weights": backbone.weights_digest,
            "preprocessing": [*backbone.mean, *backbone.std],
            "input_size": splitter.input_size,
            # Not where it lies: the digest says which images they are.
            "data": self.data.name.partition(":")[0],
            "data_digest": self.data.digest,
            "splits": {name: len(self.splits[name]) for name in splits},
        }

    def _bytes(self, splitter: Splitter, cuts: Sequence[str], splits: Iterable[str]) -> int:
        values = sum(int(np.prod(splitter.cut(cut).shape)) for cut in cuts)
        return 2 * values * sum(len(self.splits[split]) for split in splits)

    def _fit(self, splitter: Splitter, cuts: Sequence[str], progress: Progress) -> bool:
        """Whether the features of these cuts, for all splits, have room in the cache together."""
        # Decided once: what else is written meanwhile must not change where features are looked for.
        if id(splitter) not in self._together:
            needed = self._bytes(splitter, cuts, self.splits)
            self._together[id(splitter)] = fits = needed <= self.cache.room()
            if fits:
                return True
            progress.warn(
                f"the features of all {len(cuts)} cuts of {splitter.backbone.name.architecture} take "
                f"{needed / 1e9:.1f} GB, the cache holds {self.cache.room() / 1e9:.1f} GB: "
                "each cut is computed by itself, when it is needed"
            )
        return self._together[id(splitter)]

    def _compute(
        self, splitter: Splitter, cuts: Sequence[str], split: str, folder: Path, progress: Progress
    ) -> None:
        import torch

        from ...leakage.accelerators import torch_device

        device = torch_device(self.accelerator)
        # A copy: whole tensors are shared with the splitter, which stays where it is.
        network = copy.deepcopy(splitter.features_of(cuts)).to(device).eval()
        images = self.splits[split]
        shapes = {cut: splitter.cut(cut).shape for cut in cuts}
        peaks = dict.fromkeys(cuts, 0.0)
        batch = _BATCH_VALUES // sum(int(np.prod(shape)) for shape in shapes.values())
        what = f"features of {cuts[0] if len(cuts) == 1 else f'{len(cuts)} cuts'}, {split}"
        with ExitStack() as stack, torch.inference_mode():
            files = {
                cut: stack.enter_context((folder / f"{index:03d}.npy").open("wb"))
                for index, cut in enumerate(cuts)
            }
            for cut, file in files.items():
                _write_header(file, (len(images), *shapes[cut]), np.float16)
            task = stack.enter_context(progress.task(what, len(images)))
            for part in images.batches(splitter.input_size, batch=max(1, min(batch, _BATCH))):
                for cut, features in network(torch.from_numpy(part).to(device)).items():
                    peak = float(features.abs().max())
                    if not math.isfinite(peak):
                        raise PrivynetError(
                            f"features of {cut} are not finite",
                            hint="check the backbone's mean, std and weights",
                        )
                    peaks[cut] = max(peaks[cut], peak)
                    halves = features.clamp(-_HALF_MAX, _HALF_MAX).half().cpu().numpy()
                    files[cut].write(halves.astype("<f2", copy=False).tobytes())
                task.advance(len(part))
        for cut, peak in peaks.items():
            if peak > _HALF_MAX:
                progress.warn(
                    f"features of {cut} reach {peak:.3g}; trials see them clipped at {_HALF_MAX:.0f}, "
                    "the certification as they are"
                )


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
        _write_header(file, shape, dtype)
        for batch in batches:
            file.write(batch.astype(stored).tobytes())
            task.advance(len(batch))


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    header = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
