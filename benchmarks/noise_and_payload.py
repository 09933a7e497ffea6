"""Noise: what is guaranteed, and what attackers reach. Fewer bits: what they cost and hide.

    python benchmarks/noise_and_payload.py --size small    # at most 12 minutes on one core
    python benchmarks/noise_and_payload.py --size full

CIFAR-10; the bundled backbone at an early cut with every second channel.

**Noise**, five levels, as shares of the features' standard deviation. For each: dFIL (Maeng et al. 2023), the
bound it gives on any unbiased attacker, and the van Trees bound, which covers attackers with a prior, for
a Gaussian prior. Beside them the mean squared error of the strongest attack. The van Trees bound holds on
average over images drawn from that very prior, so it is shown on such images: drawn from a Gaussian with the
mean and covariance of real images, at half their contrast, so that next to nothing leaves [0, 1] (what does
is clipped; the share is stated), and rounded to 8 bits. It is shown on real images as well, with their own
covariance: these are no Gaussian, so there the bound is no guarantee, and the table says whether an attack
beats it. Errors are compared as mean squared errors; the PSNR printed is that of the mean error.

**Payload** of 32, 8, 4 and 2 bits a value, without noise: bytes, strongest attack, accuracy.

Attackers are trained afresh for every row on pairs with that row's noise or bits, and so is the head; all is
scored on images of test. Intervals are 95 %, bootstrap over images. Each attack has a budget in seconds.
Finished rows are kept in ``results/noise_and_payload-SIZE.json`` and not run again; delete the file to do so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from measured_rows import MeasuredRows, interval
from numpy.typing import NDArray

from privynet.cloud import FeatureSet, fit_head
from privynet.data import DataSet, Score, open_data
from privynet.defences import Defences, defend_encoder
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.leakage import ATTACKS, AuditSubject, Leakage, Pairs, attack_features
from privynet.leakage.fisher import Information, average_information
from privynet.leakage.gaussian_prior import GaussianPrior, gaussian_prior

DATA, BACKBONE, INPUT_SIZE = "cifar10", "bundled", 32
SEED = 0
SALT = "00" * 16
NOISE_SHARES = (0.1, 0.3, 1.0, 3.0, 10.0)
PAYLOAD_BITS = (32, 8, 4, 2)
CONTRAST = 0.5
"""Of images drawn from the prior, relative to real ones."""
WANTED = ("ridge", "decoder-residual")
HELD_OUT = 0.1
"""The share of the head's images by which its best epoch is chosen."""


@dataclass(frozen=True)
class Size:
    """How much is spent on a row."""

    cut: str
    pairs: int
    val_pairs: int
    test_images: int
    bound_images: int
    head_images: int
    head_steps: int
    budget_s: float


SIZES = {
    "small": Size("blocks.2.2", 4000, 500, 500, 12, 4000, 300, 25.0),
    "full": Size("blocks.2.2", 10_000, 2000, 2000, 256, 20_000, 2000, 120.0),
}


@dataclass(frozen=True)
class Images:
    """Images to train attackers on, to stop them by, and to attack; with the covariance (d, d) of what they
    are taken to be drawn from, as ``gaussian_prior`` gives it."""

    train: NDArray[np.uint8]
    val: NDArray[np.uint8]
    test: NDArray[np.uint8]
    for_bounds: NDArray[np.uint8] | NDArray[np.float32]
    """As ``average_information`` takes them."""
    covariance: NDArray[np.float64] = field(repr=False)
    clipped: float = 0.0
    """The share of values that were clipped to [0, 1]."""


@dataclass(frozen=True)
class Bench:
    """The encoder, the data, and the two kinds of images."""

    size: Size

    @cached_property
    def data(self) -> DataSet:
        return open_data(DATA)

    @cached_property
    def plain(self) -> Encoder:
        splitter = Splitter(load_backbone(parse_backbone(BACKBONE)), INPUT_SIZE)
        channels = range(0, splitter.cut(self.size.cut).channels, 2)
        return make_encoder(splitter, cut=self.size.cut, channels=channels, salt=SALT)

    @cached_property
    def real(self) -> Images:
        """Images of the data set, with their covariance."""
        splits = {"attack-train": self.size.pairs, "attack-val": self.size.val_pairs}
        splits["test"] = self.size.test_images
        train, val, test = (
            self.data.split(name, limit=limit).images(self.data.reference_size)
            for name, limit in splits.items()
        )
        return Images(train, val, test, val[: self.size.bound_images], gaussian_prior(train).covariance)

    @cached_property
    def prior(self) -> Images:
        """Images drawn from the Gaussian prior."""
        real = self.real
        mean, covariance = gaussian_prior(real.train)
        prior = GaussianPrior(mean, CONTRAST**2 * covariance)
        generator = np.random.default_rng(SEED)
        for_bounds = prior.sample(self.size.bound_images, generator)
        counts = [len(real.train), len(real.val), len(real.test)]
        drawn = prior.sample(sum(counts), generator).transpose(0, 2, 3, 1)
        clipped = float(((drawn < 0) | (drawn > 1)).mean())
        images = np.rint(255 * drawn.clip(0, 1)).astype(np.uint8)
        train, val, test = np.split(images, np.cumsum(counts)[:-1])
        return Images(train, val, test, for_bounds, prior.covariance, clipped)

    @cached_property
    def information(self) -> dict[str, list[Information]]:
        """Of both kinds of images: from half of those for the bounds, and from all of them."""
        subject = AuditSubject(self.plain, self.plain, self.plain, self.plain.spec)
        feature_map = subject.feature_map(self.data.reference_size)
        found = {}
        for kind, images in (("prior", self.prior.for_bounds), ("real", self.real.for_bounds)):
            halves = [average_information(feature_map, part) for part in np.array_split(images, 2)]
            n = sum(half.n for half in halves)
            matrix = np.average([half.matrix for half in halves], axis=0, weights=[half.n for half in halves])
            found[kind] = [halves[0], Information(matrix, n)]
        return found

    def attack(self, encoder: Encoder, images: Images) -> Leakage:
        """What attackers trained afresh rebuild."""
        generator = np.random.default_rng(SEED)
        train, val, test = (
            Pairs(encoder.encode(part, generator=generator), part, np.zeros(len(part), np.int64))
            for part in (images.train, images.val, images.test)
        )
        subject = AuditSubject(encoder, encoder, self.plain, encoder.spec)
        return attack_features(
            subject.view(train, val, auxiliary=images.train[:0], captures=None),
            test,
            attacks=[attack for attack in ATTACKS if attack.name in WANTED],
            seed=SEED,
            budget_s=self.size.budget_s,
            accelerator="cpu",
        )

    def accuracy(self, encoder: Encoder) -> Score:
        """Of a head trained afresh on what the encoder sends, on the test images."""
        split = self.data.split("head-train", limit=self.size.head_images)
        test = self.data.split("test", limit=self.size.test_images)
        generator = np.random.default_rng(SEED)
        features = encoder.encode(split.images(encoder.input_size), generator=generator)
        held_out = round(HELD_OUT * len(features))
        head = fit_head(
            FeatureSet(features[held_out:], split.labels[held_out:]),
            FeatureSet(features[:held_out], split.labels[:held_out]),
            classes=len(self.data.classes),
            max_steps=self.size.head_steps,
            seed=SEED,
            accelerator="cpu",
        )
        sent = encoder.encode(test.images(encoder.input_size), generator=generator)
        return Score.mean((head.predict(sent) == test.labels).astype(np.float64), SEED)

    def bounds(self, noise_std: float, kind: str) -> dict[str, Any]:
        """dFIL and both bounds on the mean squared error per value; ``half`` from half of the images."""
        covariance = (self.prior if kind == "prior" else self.real).covariance
        half, whole = (found.bounds(noise_std, covariance) for found in self.information[kind])
        return {**asdict(whole), "half": {"van_trees_mse": half.van_trees_mse, "n": half.n}}


def recovered(leakage: Leakage) -> dict[str, Any]:
    """The mean squared errors of all attacks, the least of them, and the other measures of that attack."""
    errors = {
        result.attack: Score.mean(result.image_scores.squared_error / result.reconstructions[0].size, SEED)
        for result in leakage.attacks
    }
    best = min(errors, key=lambda name: errors[name].value)
    blind = leakage.attacks[0].image_scores.blind_squared_error / leakage.attacks[0].reconstructions[0].size
    return {
        "strongest": best,
        "mse": errors[best].document(),
        "blind_mse": Score.mean(blind, SEED).document(),
        "each_mse": {name: score.value for name, score in errors.items()},
        "stopped": {result.attack: result.fit["stopped"] for result in leakage.attacks},
        **{key: leakage.document()["strongest"][key] for key in ("psnr_db", "ssim", "reidentification")},
    }


def noise_row(bench: Bench, share: float, kind: str) -> dict[str, Any]:
    """One noise level on one kind of images."""
    images = bench.prior if kind == "prior" else bench.real
    encoder = defend_encoder(bench.plain, Defences(noise_share=share), data=bench.data).encoder
    bounds = bench.bounds(encoder.noise_std, kind)
    accuracy = bench.accuracy(encoder).document() if kind == "real" else None
    attacked = recovered(bench.attack(encoder, images))
    return {
        "noise_std": encoder.noise_std,
        "bounds": bounds,
        "clipped": images.clipped,
        "accuracy": accuracy,
        **attacked,
    }


def payload_row(bench: Bench, bits: int) -> dict[str, Any]:
    """One payload format."""
    encoder = defend_encoder(bench.plain, Defences(payload_bits=bits), data=bench.data).encoder
    attacked = recovered(bench.attack(encoder, bench.real))
    return {"bytes": encoder.payload_bytes, "accuracy": bench.accuracy(encoder).document(), **attacked}


def decibels(mean_squared_error: float) -> float:
    return float(-10 * np.log10(max(mean_squared_error, 1e-6)))


def noise_table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each level and kind of images."""
    lines = [
        "noise; errors as PSNR of the mean squared error, dB (a bound is the most that an attack may reach)",
        f"{'share':>6}  {'std':>7}  {'images':6}  {'dFIL':>9}  {'unbiased':>8}  {'van Trees':>9}  "
        f"{'strongest attack':22}  {'by':17}  {'blind':>6}  {'within the bound':17}  accuracy of a new head",
    ]
    for row in rows:
        bounds, mse = row["bounds"], row["mse"]
        low, high = mse["ci95"]
        reached = f"{decibels(mse['value']):.1f} ({decibels(high):.1f}..{decibels(low):.1f})"
        within = "yes" if mse["value"] >= bounds["van_trees_mse"] else "BEATEN"
        if row["images"] == "real":
            within += ", no guarantee"
        lines.append(
            f"{row['level']:6g}  {row['noise_std']:7.3g}  {row['images']:6}  {bounds['dfil']:9.3g}  "
            f"{decibels(bounds['unbiased_mse']):8.1f}  {decibels(bounds['van_trees_mse']):9.1f}  "
            f"{reached:22}  "
            f"{row['strongest']:17}  {decibels(row['blind_mse']['value']):6.1f}  {within:17}  "
            f"{interval(row['accuracy'], '.1%')}"
        )
    drawn = next(row for row in rows if row["images"] == "prior")
    moved = max(
        abs(decibels(row["bounds"]["van_trees_mse"]) - decibels(row["bounds"]["half"]["van_trees_mse"]))
        for row in rows
    )
    lines.append(
        f"n = {drawn['mse']['n']} attacked, {drawn['bounds']['n']} for the bounds (with half of them van "
        f"Trees is off by at most {moved:.2f} dB); {drawn['clipped']:.2%} of the prior's values were clipped"
    )
    return lines


def payload_table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each format."""
    lines = [
        f"{'bits':>4}  {'bytes':>6}  {'PSNR, dB':19}  {'SSIM':22}  {'re-identified':19}  {'by':17}  "
        "accuracy of a new head"
    ]
    for row in rows:
        lines.append(
            f"{row['level']:4}  {row['bytes']:6,}  {interval(row['psnr_db'], '.1f'):19}  "
            f"{interval(row['ssim'], '.3f'):22}  {interval(row['reidentification'], '.0%'):19}  "
            f"{row['strongest']:17}  {interval(row['accuracy'], '.1%')}"
        )
    n = rows[0]["mse"]["n"]
    lines.append(f"n = {n}, chance of re-identification {1 / n:.1%}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = Bench(SIZES[arguments.size])
    setting = {
        "seed": SEED,
        "data": DATA,
        "backbone": BACKBONE,
        "size": asdict(bench.size),
        "attacks": [attack.name for attack in ATTACKS if attack.name in WANTED],
    }
    measured = MeasuredRows("noise_and_payload", arguments.size, setting)
    todo: list[tuple[str, str, float]] = [("payload", "real", bits) for bits in PAYLOAD_BITS]
    todo += [("noise", kind, share) for share in NOISE_SHARES for kind in ("prior", "real")]
    for number, (table, images, level) in enumerate(todo, 1):
        key = {"table": table, "images": images, "level": level}
        if measured.has(key):
            continue
        print(f"row {number} of {len(todo)}: {table} {level:g}, {images}", file=sys.stderr, flush=True)
        started = time.monotonic()
        row = payload_row(bench, int(level)) if table == "payload" else noise_row(bench, level, images)
        measured.add({**key, **row, "seconds": round(time.monotonic() - started, 1)})
    print(json.dumps(measured.setting))
    print(*noise_table([row for row in measured.rows if row["table"] == "noise"]), sep="\n")
    print(*payload_table([row for row in measured.rows if row["table"] == "payload"]), sep="\n")


if __name__ == "__main__":
    main()
