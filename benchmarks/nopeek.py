"""What NoPeek buys: distance correlation, what attackers rebuild, and accuracy, for alpha over five decades.

    python benchmarks/nopeek.py --size small    # at most 12 minutes on one core
    python benchmarks/nopeek.py --size full

CIFAR-10; the bundled backbone (trained on CIFAR-100) at an early cut with every second channel. One row for
the plain cut, one for fine-tuning on the task alone (alpha 0), and one for each alpha. For every row the
attackers and the head are trained afresh against the final, frozen encoder: attackers on pairs of
attack-train (likelihood-prior has the weights too), the head on head-train; all is scored on images of test.
dCor^2 is between these images and their features: bias-corrected, and biased as most papers print it (its
root), which stays high for independent data of such dimension. Intervals are 95 %, bootstrap over images.

Each attack has a budget in seconds; the fine-tuning and the head have steps, so that they do not depend on
the clock. Finished rows are kept in ``results/nopeek-SIZE.json`` and not run again; delete the file to do so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from measured_rows import MeasuredRows, interval

from privynet.cloud import FeatureSet, fit_head
from privynet.data import DataSet, Score, open_data
from privynet.defences import Adaptation, Collapse, Spread, adapt
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.leakage import ATTACKS, AuditSubject, Pairs, attack_features
from privynet.leakage.distance_correlation import distance_correlation

DATA, BACKBONE, INPUT_SIZE = "cifar10", "bundled", 32
SEED = 0
SALT = "00" * 16
ALPHAS: tuple[float | None, ...] = (None, 0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
WANTED = ("ridge", "decoder-residual", "likelihood-prior")
MEASURES = ("psnr_db", "ssim", "r2", "reidentification")


@dataclass(frozen=True)
class Size:
    """How much is spent on a row."""

    cut: str
    pairs: int
    val_pairs: int
    attacked: int
    test_images: int
    head_images: int
    tuning_steps: int
    head_steps: int
    budget_s: float


SIZES = {
    "small": Size("blocks.2.2", 4000, 500, 500, 1000, 5000, 150, 300, 30.0),
    "full": Size("blocks.2.2", 10_000, 2000, 1000, 5000, 20_000, 2000, 2000, 300.0),
}
HELD_OUT = 0.1
"""The share of the head's images by which its best epoch is chosen."""


def plain_encoder(cut: str) -> Encoder:
    """The backbone up to the cut, every second channel."""
    splitter = Splitter(load_backbone(parse_backbone(BACKBONE)), INPUT_SIZE)
    channels = range(0, splitter.cut(cut).channels, 2)
    return make_encoder(splitter, cut=cut, channels=channels, salt=SALT)


def pairs_of(encoder: Encoder, data: DataSet, split: str, limit: int) -> Pairs:
    """The first ``limit`` images of a split with what the encoder sends for them."""
    chosen = data.split(split, limit=limit)
    images = chosen.images(encoder.input_size)
    generator = np.random.default_rng(SEED)
    return Pairs(
        encoder.encode(images, generator=generator), chosen.images(data.reference_size), chosen.labels
    )


def head_accuracy(encoder: Encoder, data: DataSet, size: Size, test: Pairs) -> Score:
    """Of a head trained afresh on what the encoder sends."""
    train = pairs_of(encoder, data, "head-train", size.head_images)
    held_out = round(HELD_OUT * len(train))
    head = fit_head(
        FeatureSet(train.features[held_out:], train.labels[held_out:]),
        FeatureSet(train.features[:held_out], train.labels[:held_out]),
        classes=len(data.classes),
        max_steps=size.head_steps,
        seed=SEED,
        accelerator="cpu",
    )
    hits = head.predict(test.features) == test.labels
    return Score.mean(hits.astype(np.float64), SEED)


def measure(plain: Encoder, data: DataSet, size: Size, alpha: float | None) -> dict[str, Any]:
    """One row."""
    started = time.monotonic()
    encoder, tuning = plain, None
    if alpha is not None:
        tuning = adapt(
            plain,
            data.split("head-train", limit=size.head_images),
            data.split("select", limit=500),
            alpha=alpha,
            steps=size.tuning_steps,
            seed=SEED,
            accelerator="cpu",
        )
        encoder = tuning.encoder
    tuned = time.monotonic()
    test = pairs_of(encoder, data, "test", size.test_images)
    train = pairs_of(encoder, data, "attack-train", size.pairs)
    val = pairs_of(encoder, data, "attack-val", size.val_pairs)
    few = slice(0, size.attacked)
    view = AuditSubject(encoder, encoder, plain, encoder.spec).view(
        train, val, auxiliary=train.images[:0], captures=None
    )
    leakage = attack_features(
        view,
        Pairs(test.features[few], test.images[few], test.labels[few]),
        attacks=[attack for attack in ATTACKS if attack.name in WANTED],
        seed=SEED,
        budget_s=size.budget_s,
        accelerator="cpu",
    ).document()
    attacked = time.monotonic()
    accuracy = head_accuracy(encoder, data, size, test)
    return {
        "alpha": alpha,
        "dcor": distance_correlation(test.images / np.float32(255), test.features).document(),
        **{key: leakage[key] for key in ("strongest", "strongest_pairs_only", "blind", "attacks")},
        "accuracy": accuracy.document(),
        **collapse_of(tuning, Spread.of(test.features[few])),
        "seconds": {
            "fine-tuning": round(tuned - started, 1),
            "attacks": round(attacked - tuned, 1),
            "head": round(time.monotonic() - attacked, 1),
        },
    }


def collapse_of(tuning: Adaptation | None, spread: Spread) -> dict[str, Any]:
    """What the fine-tuning reports of itself; for the plain cut its spread alone."""
    if tuning is None:
        collapse = Collapse(spread, spread).document()
        return {"collapse": collapse, "fine_tuning": None, "warnings": []}
    document = tuning.document()
    return {
        "collapse": document["collapse"],
        "fine_tuning": {key: document[key] for key in ("before", "after", "fit")},
        "warnings": tuning.warnings(),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each row, then who was strongest."""
    lines = [
        f"{'alpha':>8}  {'dCor^2':>7}  {'dCor':>6}  {'PSNR, dB':19}  {'SSIM':22}  {'re-identified':19}  "
        f"{'accuracy of a new head':22}  {'rank':>6}  {'std':>5}  {'dead':>5}"
    ]
    for row in rows:
        strongest, collapse = row["strongest"], row["collapse"]
        name = "plain" if row["alpha"] is None else f"{row['alpha']:g}"
        lines.append(
            f"{name:>8}  {row['dcor']['corrected']:7.3f}  {row['dcor']['biased']:6.3f}  "
            f"{interval(strongest['psnr_db'], '.1f'):19}  {interval(strongest['ssim'], '.3f'):22}  "
            f"{interval(strongest['reidentification'], '.0%'):19}  {interval(row['accuracy'], '.1%'):22}  "
            f"{collapse['effective_rank']['after']:6.1f}  {collapse['relative_std']['median']:5.2f}  "
            f"{collapse['dead_channels']:5.0%}" + "  COLLAPSED" * collapse["collapsed"]
        )
    blind = rows[0]["blind"]
    lines.append(f"blind guess (the mean image): {interval(blind['psnr_db'], '.1f')} dB")
    n, images = rows[0]["strongest"]["psnr_db"]["n"], rows[0]["dcor"]["n"]
    lines.append(
        f"attacks: n = {n}, chance of re-identification {1 / n:.1%}; dCor and accuracy: n = {images}; "
        "rank: effective rank of the features; std: median channel's, against before; dead: channels"
    )
    for row in rows:
        each = ", ".join(
            f"{result['attack']} {result['psnr_db']['value']:.1f} dB / {result['r2']['value']:.3f} "
            f"({result['fit']['stopped']})"
            for result in row["attacks"]
        )
        name = "plain" if row["alpha"] is None else f"alpha {row['alpha']:g}"
        lines.append(f"  {name}: {each}; seconds {row['seconds']}")
        lines.extend(f"    warning: {warning}" for warning in row["warnings"])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = SIZES[arguments.size]
    data, plain = open_data(DATA), plain_encoder(size.cut)
    setting = {
        "seed": SEED,
        "data": DATA,
        "backbone": BACKBONE,
        "size": asdict(size),
        "attacks": [attack.name for attack in ATTACKS if attack.name in WANTED],
        "data_digest": data.digest,
        "weights_digest": plain.spec.weights_digest,
    }
    measured = MeasuredRows("nopeek", arguments.size, setting)
    for number, alpha in enumerate(ALPHAS, 1):
        if not measured.has({"alpha": alpha}):
            print(f"row {number} of {len(ALPHAS)}: alpha {alpha}", file=sys.stderr, flush=True)
            measured.add(measure(plain, data, size, alpha))
    print(json.dumps(measured.setting))
    print(table(measured.rows))


if __name__ == "__main__":
    main()
