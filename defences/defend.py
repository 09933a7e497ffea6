"""From an encoder spec to a defended one in a new folder: NoPeek, noise, payload format."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..artifacts import Payload, new_folder, write_document
from ..data import DataSet, open_data
from ..errors import InputError
from ..exporters.export import read_subject
from ..progress import SILENT, Progress

if TYPE_CHECKING:
    from ..encoders import Encoder
    from .nopeek import Adaptation

KIND = "defence"
SPEC_FILE = "encoder.json"
DOCUMENT_FILE = "defence.json"
PAYLOAD_BITS = (32, 8, 4, 2)

_STATISTICS_IMAGES = 1000
"""Noise shares and payload grids are fitted on so many images of head-train."""


@dataclass(frozen=True)
class Defences:
    """What is to be done; ``None`` leaves it as the encoder has it.

    ``nopeek``: alpha. ``noise_std``: in the features' unit; ``noise_share``: times the features' standard
    deviation (see ``features_std``). Raises ``InputError`` for nothing at all, both kinds of noise, or
    figures out of range.
    """

    nopeek: float | None = None
    noise_std: float | None = None
    noise_share: float | None = None
    payload_bits: int | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in vars(self).values()):
            raise InputError(
                "no defence was asked for",
                hint="give --nopeek, --noise-std or --noise-share, --payload-bits, or several",
            )
        if self.noise_std is not None and self.noise_share is not None:
            raise InputError("--noise-std and --noise-share exclude each other", hint="give one of them")
        for name in ("nopeek", "noise_std", "noise_share"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(
                    f"--{name.replace('_', '-')} {value:g} is out of range", hint="allowed: 0 or more"
                )
        if self.payload_bits is not None and self.payload_bits not in PAYLOAD_BITS:
            raise InputError(
                f"--payload-bits {self.payload_bits} is not possible",
                hint=f"allowed: {', '.join(map(str, PAYLOAD_BITS))}",
            )


@dataclass(frozen=True)
class Defended:
    """The changed encoder, what was done to it, and what to be careful about."""

    encoder: Encoder
    adaptation: Adaptation | None
    features_std: float
    """Of the network's output before noise, see ``features_std``."""

    def document(self) -> dict[str, Any]:
        """``nopeek``, ``noise`` and ``payload`` as in a defence's document; ``None`` where there is none."""
        encoder = self.encoder
        noise = None
        if encoder.noise_std:
            share = encoder.noise_std / self.features_std if self.features_std else None
            noise = {"std": encoder.noise_std, "share": share, "features_std": self.features_std}
        return {
            "nopeek": self.adaptation.document() if self.adaptation else None,
            "noise": noise,
            "payload": {**encoder.payload.model_dump(mode="json"), "bytes": encoder.payload_bytes},
        }

    def warnings(self) -> list[str]:
        """In sentences."""
        found = self.adaptation.warnings() if self.adaptation else []
        if not self.features_std:
            found.append("the features are constant: they say nothing about the image")
        return found


def features_std(features: NDArray[np.floating[Any]]) -> float:
    """The root of the channels' mean variance over images and positions; features are (n, C, h, w)."""
    return math.sqrt(float(np.var(features, axis=(0, 2, 3), dtype=np.float64).mean()))


def defend_encoder(
    encoder: Encoder,
    defences: Defences,
    *,
    data: DataSet,
    train_images: int = 10_000,
    held_out_images: int = 1000,
    steps: int = 600,
    budget_s: float | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    progress: Progress = SILENT,
) -> Defended:
    """Apply the defences, in the order NoPeek, noise, payload; the given encoder is left as it is.

    All is fitted on ``head-train``; NoPeek is measured on ``select``. Noise that is not asked for stays as it
    was, and so do the payload's bits; its grid is always fitted anew, to features with the noise. See
    ``adapt`` for ``steps`` and ``budget_s``.
    """
    adaptation = None
    if defences.nopeek is not None:
        from .nopeek import adapt

        adaptation = adapt(
            encoder,
            data.split("head-train", limit=train_images),
            data.split("select", limit=held_out_images),
            alpha=defences.nopeek,
            steps=steps,
            budget_s=budget_s,
            seed=seed,
            accelerator=accelerator,
            progress=progress,
        )
        encoder = adaptation.encoder
    images = data.split("head-train", limit=_STATISTICS_IMAGES).images(encoder.input_size)
    with progress.task("noise and payload"):
        features = encoder.sending(payload=Payload(), noise_std=0.0).encode(images)
        spread = features_std(features)
        noise_std = encoder.noise_std if defences.noise_std is None else defences.noise_std
        if defences.noise_share is not None:
            # three digits, so that it reproduces
            noise_std = float(f"{defences.noise_share * spread:.2e}")
        noise = np.random.default_rng(seed).standard_normal(features.shape, np.float32)
        bits = encoder.payload.bits if defences.payload_bits is None else defences.payload_bits
        payload = Payload.fit(features + np.float32(noise_std) * noise, cast(Literal[32, 8, 4, 2], bits))
        return Defended(encoder.sending(payload=payload, noise_std=noise_std), adaptation, spread)


def defend(
    subject: Path,
    *,
    data: str,
    out: Path,
    nopeek: float | None = None,
    noise_std: float | None = None,
    noise_share: float | None = None,
    payload_bits: int | None = None,
    steps: int = 600,
    budget_s: float | None = None,
    train_images: int = 10_000,
    held_out_images: int = 1000,
    image_size: int = 64,
    weights: str | None = None,
    adapted_weights: str | None = None,
    projection_weights: str | None = None,
    allowed_code: Collection[str] = (),
    accelerator: str = "auto",
    force: bool = False,
    seed: int = 0,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write a defended version of a run's chosen encoder, or of a spec file, to the folder ``out``.

    ``out`` gets ``encoder.json`` (the new spec), ``encoder.safetensors`` (adapted weights, or the matrix
    of a projection) and ``defence.json``, which is also returned, with ``spec``, the path of the new spec. It
    says what was done and, on images of ``select``, how much of the images' structure is in what leaves the
    device before and after (``dcor``); what an attacker rebuilds is for ``audit`` to say. See ``Defences``
    and ``defend_encoder`` for the rest.

    Raises ``InputError`` for a subject that is neither run nor spec, or is in int8, defences that cannot be,
    an ``out`` that exists, or too few images, and ``PrivynetError`` when NoPeek diverges.
    """
    from ..encoders import build_encoder, write_encoder
    from ..leakage.distance_correlation import distance_correlation

    defences = Defences(nopeek, noise_std, noise_share, payload_bits)
    if (subject / "manifest.json").is_file():
        raise InputError(
            f"{subject} is an artifact, which cannot be changed",
            hint="name the run or the encoder.json that it was exported from",
        )
    spec, _ = read_subject(subject)
    if spec.int8 is not None:
        raise InputError(
            f"{subject} is in int8, and defences change the float32 encoder",
            hint="give its float32 spec, and export what comes out with --precision int8",
        )
    with new_folder(out, force=force, private=True) as folder:
        encoder = build_encoder(
            spec,
            weights=weights,
            adapted_weights=adapted_weights,
            projection_weights=projection_weights,
            allowed_code=allowed_code,
        )
        source = open_data(data, image_size=image_size, progress=progress)
        defended = defend_encoder(
            encoder,
            defences,
            data=source,
            train_images=train_images,
            held_out_images=held_out_images,
            steps=steps,
            budget_s=budget_s,
            seed=seed,
            accelerator=accelerator,
            progress=progress,
        )
        judged = source.split("select", limit=held_out_images).images(encoder.input_size)
        planes = judged.astype(np.float32) / np.float32(255)
        dcor = {
            name: distance_correlation(
                planes, changed.encode(judged, generator=np.random.default_rng(seed))
            ).document()
            for name, changed in (("before", encoder), ("after", defended.encoder))
        }
        result = {
            "encoder_digest": defended.encoder.digest,
            **defended.document(),
            "dcor": dcor,
            "payload_bytes": {
                "before": encoder.payload_bytes,
                "after": defended.encoder.payload_bytes,
            },
            "warnings": defended.warnings(),
            "seed": seed,
            "inputs": {
                "data": source.name,
                "data_digest": source.digest,
                "encoder_digest": encoder.digest,
            },
        }
        write_encoder(defended.encoder, folder / SPEC_FILE, weights=weights)
        write_document(folder / DOCUMENT_FILE, KIND, result)
    return {**result, "spec": str(out / SPEC_FILE)}
