"""The feature audit: encode a data set's attack splits, attack, and say whether the attacker was able to."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data import DataSet, Split
from ..errors import InputError, PrivynetError
from ..progress import SILENT, Progress, Task
from .attack import ATTACKS, Attack, Leakage, attack_features
from .pairs import Pairs

CONTROL_PSNR_DB = 30.0
"""The positive control passes when the images themselves are rebuilt at least this well."""
_CONTROL_PAIRS = 2000
_CONTROL_TEST_IMAGES = 500
_FEW_PAIRS = 1000
_BATCH = 256


class FeatureEncoder(Protocol):
    """What can be audited: an encoder in torch or in ONNX Runtime."""

    @property
    def digest(self) -> str:
        """The digest of its spec."""
        ...

    @property
    def input_size(self) -> int:
        """H = W in pixels."""
        ...

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one image's features."""
        ...

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (n, H, W, 3) -> float32 (n, C, h, w)."""
        ...


@dataclass(frozen=True)
class AuditResult:
    """What the attacks recovered, how well the attacker was able to, and what to be careful about.

    ``control``: the attack on the images themselves, ``None`` when not asked for. ``originals``: uint8
    (n, R, R, 3), the attacked images (beside ``leakage.reconstructions``), ``None`` when not to be kept.
    """

    leakage: Leakage
    control: Leakage | None
    originals: NDArray[np.uint8] | None
    warnings: tuple[str, ...]
    seed: int
    budget_s: float
    n: dict[str, int]
    inputs: dict[str, str]

    @property
    def conclusive(self) -> bool:
        """False when the positive control failed: then low scores say nothing about the encoder."""
        return self.control is None or self.control.scores.psnr_db.value >= CONTROL_PSNR_DB

    def document(self) -> dict[str, Any]:
        """DESIGN's audit keys, with ``verdict`` ``measured`` or ``inconclusive``."""
        control = None
        if self.control is not None:
            control = {
                "required_psnr_db": CONTROL_PSNR_DB,
                "passed": self.conclusive,
                **self.control.document()["strongest"],
            }
        return {
            "verdict": "measured" if self.conclusive else "inconclusive",
            **self.leakage.document(),
            "positive_control": control,
            "n": dict(self.n),
            "seed": self.seed,
            "budget_s": self.budget_s,
            "inputs": dict(self.inputs),
            "warnings": list(self.warnings),
        }


def audit(
    encoder: FeatureEncoder,
    *,
    data: DataSet,
    split: str = "test",
    pairs: int = 5000,
    test_images: int | None = 1000,
    budget_s: float = 120.0,
    attacks: Sequence[Attack] = ATTACKS,
    control: bool = False,
    images: bool = True,
    seed: int = 0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> AuditResult:
    """Attack an encoder with ``pairs`` images of attack-train and score on ``split``.

    Images are attacked at the data set's reference size. ``pairs``: at most so many training pairs (and a
    fifth as many for validation); ``test_images``: at most so many images of ``split`` (``None``: all).
    ``budget_s``: seconds for each attack's training. ``control``: also attack the images themselves, under
    the same budget; where that fails the verdict is ``inconclusive``. ``images=False`` keeps no originals.
    Features lie in unnamed temporary files while the attack runs. Raises ``InputError`` for an unknown
    split or counts that are not positive.
    """
    for name, count in (("pairs", pairs), ("test images", 1 if test_images is None else test_images)):
        if count < 1:
            raise InputError(f"{count} {name}", hint="needed: 1 or more")
    splits = {
        "train": data.split("attack-train", limit=pairs),
        "val": data.split("attack-val", limit=max(100, pairs // 5)),
        "test": data.split(split, limit=test_images),
    }
    with progress.task("encode", sum(map(len, splits.values()))) as task:
        train, val, test = (_encode(encoder, part, data.reference_size, task) for part in splits.values())
    run = partial(
        attack_features,
        attacks=attacks,
        seed=seed,
        budget_s=budget_s,
        accelerator=accelerator,
        progress=progress,
    )
    leakage = run(train, val, test)
    controlled = None
    if control:
        controlled = run(
            _identity(train, _CONTROL_PAIRS),
            _identity(val, _CONTROL_TEST_IMAGES),
            _identity(test, _CONTROL_TEST_IMAGES),
        )
    return AuditResult(
        leakage=leakage,
        control=controlled,
        originals=test.images if images else None,
        warnings=tuple(_warnings(leakage, len(train), budget_s)),
        seed=seed,
        budget_s=budget_s,
        n={name: len(part) for name, part in splits.items()},
        inputs={
            "data": data.name,
            "data_digest": data.digest,
            "split": split,
            "encoder_digest": encoder.digest,
        },
    )


def _encode(encoder: FeatureEncoder, split: Split, reference_size: int, task: Task) -> Pairs:
    shape = (len(split), *encoder.feature_shape)
    seen = split.batches(encoder.input_size, batch=_BATCH)
    try:
        with tempfile.TemporaryFile() as file:
            for batch in seen:
                # Written, not mapped for writing: a full disk is then an error, not a bus error.
                file.write(np.ascontiguousarray(encoder.encode(batch), dtype=np.float32).tobytes())
                task.advance(len(batch))
            file.flush()
            features = np.memmap(file, np.float32, "r", shape=shape)
    except OSError as error:
        raise PrivynetError(
            f"the features do not fit in {tempfile.gettempdir()}: {error.strerror}",
            hint=f"{4 * int(np.prod(shape)) >> 20} MiB are needed: ask for fewer pairs or set TMPDIR",
        ) from error
    return Pairs(features, split.images(reference_size), split.labels)


def _identity(pairs: Pairs, limit: int) -> Pairs:
    """The pairs of an encoder that sends the images as they are."""
    images = pairs.images[:limit]
    features = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return Pairs(features, images, pairs.labels[:limit])


def _warnings(leakage: Leakage, pairs: int, budget_s: float) -> list[str]:
    found = [
        f"{result.attack}: its error was still falling after {budget_s:g} s; a longer attack may recover more"
        for result in leakage.attacks
        if result.fit.get("stopped") == "budget"
    ]
    if pairs < _FEW_PAIRS:
        found.append(f"only {pairs} attack pairs; an attacker with more may recover more")
    return found
