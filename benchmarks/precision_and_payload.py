"""What int8 and fewer bits of payload cost in accuracy, and what attackers rebuild from them.

    PRIVYNET_SHARED=../shared python benchmarks/precision_and_payload.py --size small   # about 25 minutes
    PRIVYNET_SHARED=../shared python benchmarks/precision_and_payload.py --size full

CIFAR-10, the bundled backbone, every second channel of a cut in the middle. Each row is an artifact as it
ships: float32 or int8, sending float32 or 8, 4 or 2 bits a value. A head and attackers are trained afresh on
what it sends; beside them stands the accuracy of the head that learnt from float32, which sees the others for
the first time. Attackers with the weights hold those of the float32 network. All is scored on images of
``test``; intervals are 95 %, bootstrap over images; what the head of float32 loses is paired.

Finished rows are kept in ``results/precision_and_payload-SIZE.json`` and not run again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from measured_rows import MeasuredRows, count_work, interval
from numpy.typing import NDArray
from shared_inputs import shared_folder

from privynet.artifacts import Artifact, OrtEncoder
from privynet.cloud import FeatureSet, fit_head
from privynet.data import DataSet, Score, open_data
from privynet.defences import Defences, defend_encoder
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import export
from privynet.leakage import ATTACKS, AuditSubject, Leakage, Pairs, attack_features

SEED = 0
INPUT_SIZE = 32
BITS = (32, 8, 4, 2)
PRECISIONS = ("fp32", "int8")
WANTED = ("ridge", "decoder-small", "likelihood-prior")
HELD_OUT = 0.1


@dataclass(frozen=True)
class Size:
    """How much is spent on a row."""

    cut: str
    pairs: int
    val_pairs: int
    attacked: int
    test_images: int
    head_images: int
    head_steps: int
    calibration: int
    budget_s: float


SIZES = {
    "small": Size("blocks.4.2", 5000, 500, 500, 5000, 10_000, 600, 256, 20.0),
    "full": Size("blocks.4.2", 10_000, 2000, 2000, 10_000, 45_000, 4000, 256, 120.0),
}


@dataclass(frozen=True)
class Bench:
    """The data, and the encoder that the rows are made of."""

    size: Size

    @cached_property
    def data(self) -> DataSet:
        return open_data("cifar10")

    @cached_property
    def plain(self) -> Encoder:
        splitter = Splitter(load_backbone(parse_backbone("bundled")), INPUT_SIZE)
        channels = range(0, splitter.cut(self.size.cut).channels, 2)
        return make_encoder(splitter, cut=self.size.cut, channels=channels, salt="00" * 16)

    def images(self, split: str, count: int) -> NDArray[np.uint8]:
        return self.data.split(split, limit=count).images(INPUT_SIZE)

    def exported(self, precision: Any, bits: int, folder: Path) -> tuple[Artifact, dict[str, Any]]:
        """The artifact, and what its export says."""
        encoder = defend_encoder(self.plain, Defences(payload_bits=bits), data=self.data).encoder
        encoder.spec.write(folder / "encoder.json")
        result = export(
            folder / "encoder.json",
            out=folder / "artifact",
            precision=precision,
            calibration_images=self.images("head-train", self.size.calibration),
        )
        return Artifact.open(folder / "artifact"), result

    def head(self, session: OrtEncoder) -> Any:
        """Trained afresh on what the encoder sends."""
        split = self.data.split("head-train", limit=self.size.head_images)
        features = session.encode(split.images(INPUT_SIZE))
        held_out = round(HELD_OUT * len(features))
        return fit_head(
            FeatureSet(features[held_out:], split.labels[held_out:]),
            FeatureSet(features[:held_out], split.labels[:held_out]),
            classes=len(self.data.classes),
            max_steps=self.size.head_steps,
            seed=SEED,
            accelerator="cpu",
        )

    def right(self, head: Any, session: OrtEncoder) -> NDArray[np.bool_]:
        """Of each test image, whether its class is told."""
        test = self.data.split("test", limit=self.size.test_images)
        found: NDArray[np.bool_] = head.predict(session.encode(test.images(INPUT_SIZE))) == test.labels
        return found

    def attacked(self, artifact: Artifact, session: OrtEncoder) -> Leakage:
        """What attackers rebuild, trained afresh."""
        train, val, test = (
            Pairs(session.encode(images), images, np.zeros(len(images), np.int64))
            for images in (
                self.images("attack-train", self.size.pairs),
                self.images("attack-val", self.size.val_pairs),
                self.images("test", self.size.attacked),
            )
        )
        spec = self.plain.spec.model_copy(update={"payload": artifact.manifest.payload})
        subject = AuditSubject.of_spec(spec, encoder=session)
        return attack_features(
            subject.view(train, val, auxiliary=train.images[:0], captures=None),
            test,
            attacks=[attack for attack in ATTACKS if attack.name in WANTED],
            seed=SEED,
            budget_s=self.size.budget_s,
            accelerator="cpu",
        )


def row(bench: Bench, first: Any, precision: str, bits: int) -> dict[str, Any]:
    """One artifact; ``first`` is the head that learnt from float32, and what it got right there."""
    with tempfile.TemporaryDirectory() as folder:
        artifact, result = bench.exported(precision, bits, Path(folder))
        session = artifact.session()
        right = bench.right(bench.head(session), session)
        kept = bench.right(first.head, session)
        leakage = bench.attacked(artifact, session)
        size = (artifact.folder / "encoder.onnx").stat().st_size
    document = leakage.document()
    return {
        "kb": size / 1024,
        "payload_bytes": artifact.manifest.costs["payload_bytes"],
        "sqnr_db": result["int8"] and list(result["int8"]["sqnr_db"].values())[-1],
        "accuracy": scored(right),
        "accuracy_of_the_first_head": scored(kept),
        "lost_by_the_first_head": scored(first.right.astype(np.float64) - kept),
        "lost": scored(first.right.astype(np.float64) - right),
        **{key: document["strongest"][key] for key in ("psnr_db", "ssim", "reidentification")},
        "each_psnr_db": {one["attack"]: one["psnr_db"]["value"] for one in document["attacks"]},
    }


def scored(values: NDArray[Any]) -> dict[str, Any]:
    return Score.mean(values.astype(np.float64), SEED).document()


@dataclass(frozen=True)
class First:
    """The head that learnt from float32 and 32 bits, and what it tells right."""

    head: Any
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, bench: Bench) -> First:
        with tempfile.TemporaryDirectory() as folder:
            session = bench.exported("fp32", 32, Path(folder))[0].session()
            head = bench.head(session)
            return cls(head, bench.right(head, session))


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each artifact."""
    form = "{:5} {:>4} {:>7} {:>6} {:>6}  {:22} {:22} {:20} {:20} {:18} {:18}"
    lines = [
        form.format(
            *(
                "",
                "bits",
                "bytes",
                "kB",
                "SQNR",
                "accuracy, new head",
                "float32's head",
                "lost by it, points",
            ),
            *("PSNR, dB", "SSIM", "re-identified"),
        )
    ]
    for one in rows:
        lost = one["lost_by_the_first_head"]
        points = {"value": 100 * lost["value"], "ci95": [100 * end for end in lost["ci95"]]}
        lines.append(
            form.format(
                *(one["precision"], one["bits"], f"{one['payload_bytes']:,}", f"{one['kb']:.0f}"),
                "-" if one["sqnr_db"] is None else f"{one['sqnr_db']:.1f}",
                *(interval(one[key], ".1%") for key in ("accuracy", "accuracy_of_the_first_head")),
                interval(points, ".2f"),
                interval(one["psnr_db"], ".2f"),
                interval(one["ssim"], ".3f"),
                interval(one["reidentification"], ".0%"),
            )
            + f" {one['psnr_db']['attack']}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    size = parser.parse_args().size
    shared_folder()
    count_work()
    bench = Bench(SIZES[size])
    setting = {
        "seed": SEED,
        "attacks": list(WANTED),
        "size": asdict(bench.size),
        "onnxruntime": onnxruntime.__version__,
    }
    measured = MeasuredRows("precision_and_payload", size, setting)
    wanted = [
        {"precision": precision, "bits": bits}
        for bits, precision in itertools.product(BITS, PRECISIONS)
        if not measured.has({"precision": precision, "bits": bits})
    ]
    first = First.of(bench) if wanted else None
    for key in wanted:
        print(*key.values(), file=sys.stderr, flush=True)
        started = time.monotonic()
        found = row(bench, first, **key)
        measured.add({**key, **found, "seconds": round(time.monotonic() - started, 1)})
    print(table(measured.rows))


if __name__ == "__main__":
    main()
