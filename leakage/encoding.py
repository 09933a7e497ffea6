"""An encoder run over images, as often as an attack needs it; features lie on disk while they are used."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..data import Split
from ..errors import PrivynetError
from ..progress import Task
from .knowledge import FeatureEncoder
from .pairs import Pairs

_BATCH = 256


def encode_pairs(
    encoder: FeatureEncoder, split: Split, *, image_size: int, captures: int, seed: int, task: Task
) -> Pairs:
    """Images of ``split`` with their features, as means over ``captures`` captures of each.

    Features are a read-only map of an unnamed temporary file. Noise, where the encoder adds any, is drawn
    from ``seed``. Raises ``PrivynetError`` when the disk is full.
    """
    generator = np.random.default_rng([seed, captures])
    shape = (len(split), *encoder.feature_shape)
    try:
        with tempfile.TemporaryFile() as file:
            for features in _encoded(encoder, split, captures, generator):
                # Written, not mapped for writing: a full disk is then an error, not a bus error.
                file.write(np.ascontiguousarray(features, dtype=np.float32).tobytes())
                task.advance(len(features))
            file.flush()
            mapped = np.memmap(file, np.float32, "r", shape=shape)
    except OSError as error:
        raise PrivynetError(
            f"the features do not fit in {tempfile.gettempdir()}: {error.strerror}",
            hint=f"{4 * int(np.prod(shape)) >> 20} MiB are needed: ask for fewer pairs or set TMPDIR",
        ) from error
    return Pairs(mapped, split.images(image_size), split.labels)


def _encoded(
    encoder: FeatureEncoder, split: Split, captures: int, generator: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    for images in split.batches(encoder.input_size, batch=_BATCH):
        total = encoder.encode(images, generator=generator)
        for _ in range(captures - 1):
            total = total + encoder.encode(images, generator=generator)
        yield total / np.float32(captures)
