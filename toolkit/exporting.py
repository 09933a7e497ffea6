"""``export`` with what other rooms know: images to calibrate on, a head to judge by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..progress import SILENT, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..artifacts import OrtEncoder
    from ..data import DataSet
    from ..encoders import Encoder
    from ..exporters.int8 import Judge
    from ..exporters.precision import Precision
    from ..exporters.selftest_images import SelfTest

_CALIBRATION = 256


def export_subject(
    subject: Path,
    *,
    precision: Precision | None = None,
    data: str | None = None,
    calibration: int | None = None,
    head: Path | None = None,
    max_accuracy_loss: float | None = None,
    selftest: SelfTest = "synthetic",
    progress: Progress = SILENT,
    **options: Any,
) -> dict[str, Any]:
    """``privynet.exporters.export`` with the images of ``data``, or of the run's own source.

    int8 is calibrated on ``calibration`` (256) images. A spec that has grids keeps them, unless
    ``precision="int8"`` is asked for and there are images, or ``calibration`` is. ``head``: a folder of
    ``train-head``, whose accuracy on the ``select`` split is told for float32 and int8; with
    ``max_accuracy_loss`` layers are left in float32 until no more than that is lost. ``options`` are the
    others of ``export``. Raises as it does, and :class:`InputError` where images are lacking, a head is of
    another encoder or of other classes, or something is asked for that this export has no use for.
    """
    from ..exporters import export
    from ..exporters.export import read_subject
    from ..exporters.precision import precision_of

    spec, _ = read_subject(subject)
    wanted = precision_of(spec, precision)
    name = data or _own_source(subject)
    if wanted == "fp32":
        _refuse(
            "is for int8",
            "--precision int8",
            calibration=calibration,
            head=head,
            max_accuracy_loss=max_accuracy_loss,
        )
    if max_accuracy_loss is not None and head is None:
        raise InputError("--max-accuracy-loss needs a head", hint="name one with --head")
    calibrates = wanted == "int8" and (
        calibration is not None or spec.int8 is None or (precision is not None and name is not None)
    )
    if wanted == "int8" and not calibrates:
        _refuse(
            "is for calibrating, and the spec has its grids",
            "--precision int8 with --data",
            max_accuracy_loss=max_accuracy_loss,
        )
    reads = calibrates or head is not None
    if not reads and selftest != "data":
        _refuse(
            "is for calibrating int8 or for --selftest data",
            "--precision int8 or --selftest data",
            data=data,
        )
    images, judge = None, None
    if reads:
        source = _open(name, progress=progress)
        images = _images(source, spec.input_size, calibration or _CALIBRATION) if calibrates else None
        judge = None if head is None else _judge(head, source, spec.in_float32.digest)
    return export(
        subject,
        precision=wanted,
        calibration_images=images,
        judge=judge,
        max_loss=max_accuracy_loss,
        selftest=selftest,
        data=name,
        progress=progress,
        **options,
    )


def _refuse(reason: str, instead: str, **given: object) -> None:
    """What nothing uses is refused: ignored, it would pass for done."""
    for name, value in given.items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} {reason}", hint=f"add {instead}, or leave out {option}")


def _open(name: str | None, *, progress: Progress) -> DataSet:
    from ..data import open_data

    if name is None:
        raise InputError(
            "int8 needs images to calibrate on, and a head images to be tried on",
            hint="name their source with --data, or export in fp32",
        )
    return open_data(name, progress=progress)


def _own_source(subject: Path) -> str | None:
    """The data that a run was searched on; ``None`` for a spec."""
    from ..artifacts import RunFolder, read_document

    if not subject.is_dir():
        return None
    run = RunFolder.open(subject)
    if not run.result.exists():
        return None
    name: str = read_document(run.result, "search-result")["data"]["name"]
    return name


def _images(source: DataSet, size: int, count: int) -> NDArray[np.uint8]:
    """uint8 (n, size, size, 3) of those that heads are trained on."""
    split = source.split("head-train", limit=count)
    return np.concatenate(list(split.batches(size)))


def _judge(head: Path, source: DataSet, encoder_digest: str) -> Judge:
    """The accuracy of a head, trained on this encoder in float32, on the ``select`` split."""
    from ..cloud.trained import load_head

    trained = load_head(head)
    if trained.document.encoder_digest != encoder_digest:
        raise InputError(
            f"{head} was trained on another encoder", hint="train one on this encoder, exported in fp32"
        )
    if trained.document.classes != source.classes:
        raise InputError(f"{source.name} has other classes than {head} knows", hint="name its own --data")
    session, split = trained.session(), source.split("select")

    def accuracy(encoder: Encoder | OrtEncoder) -> float:
        generator = np.random.default_rng(0)
        answers = [
            session.logits(encoder.encode(images, generator=generator)).argmax(1)
            for images in split.batches(encoder.input_size)
        ]
        return float((np.concatenate(answers) == split.labels).mean())

    return accuracy
