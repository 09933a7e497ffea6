"""What each way of choosing what is sent buys: accuracy and the strongest attack, at three cuts.

    python benchmarks/privynet_selection.py --size small      # at most 60 minutes on two quiet cores
    python benchmarks/privynet_selection.py --size full

CIFAR-10 at 64 pixels, ImageNet's MobileNetV2, the first cut with 24, with 32 and with 64 channels; four
counts each and every policy of the search with its default parameters: random channels (three secrets),
Fisher's (PrivyNet's ranking), PrivyNet's full procedure (leak-prune), greedy on the closed forms (joint),
eigenvectors (projection) and the mixing trained against an attacker (adversarial). All of them choose by
features of head-train, select, attack-train and attack-val; a head and every attacker are then trained afresh
and scored on images of test. The attackers have pairs (decoder-small) or pairs and the encoder's weights, the
projection's among them (likelihood-prior, which refines the images of a residual decoder that it trains for
three quarters of its seconds, or leaves them as they are where that is better). Seconds matter: what was
trained against an attacker gives way more slowly.

Accuracy at equal privacy loss: per policy the points of all counts, from the most private one
on the best accuracy so far; straight lines between them, compared with Fisher's over the range of PSNR that
both cover, and averaged over it. PSNR at equal accuracy likewise. Intervals are 95 %, bootstrap over test
images, the same ones for both policies; they do not hold what another training of the networks would change.

Finished rows are kept in ``results/privynet_selection-SIZE.json`` and not run again; delete the file to do
so. Workers have one thread each; seconds are of processor time, so that no attack is weaker for what else
the machine did.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measured_rows import MeasuredRows, count_work
from numpy.typing import NDArray
from privynet_selection_curves import label, report
from shared_inputs import MOBILENET, shared_folder

from privynet.cloud import FeatureSet, fit_head
from privynet.data import Score, open_data
from privynet.defences import ChannelScatter, channel_scatter
from privynet.encoders import Splitter, fisher_scores, load_backbone, make_encoder, parse_backbone
from privynet.leakage import ATTACKS, AuditSubject, Pairs, attack_features
from privynet.search.characterisation.moments import CutMoments
from privynet.search.space import POLICIES, Selection, select

DATA, INPUT_SIZE, SEED = "cifar10", 64, 0
CUTS = {
    "blocks.1.0.bn3": (2, 4, 8, 16),
    "blocks.2.0.bn3": (2, 4, 8, 16),
    "blocks.3.0.bn3": (4, 8, 16, 32),
}
DRAWS = {"random": 3}
"""Secrets by which a policy draws, where more than one; their rows count as one point, their mean."""
WANTED = ("decoder-small", "likelihood-prior")
SPLITS = ("head-train", "select", "attack-train", "attack-val", "test")
_BATCH = 256


@dataclass(frozen=True)
class Size:
    """How much is spent on a row: images of each split, steps of the head, seconds for each attack."""

    head_images: int
    select_images: int
    pairs: int
    val_pairs: int
    test_images: int
    attacked: int
    head_steps: int
    attack_s: dict[str, float]

    @property
    def limits(self) -> dict[str, int]:
        """Images of each split."""
        counts = (self.head_images, self.select_images, self.pairs, self.val_pairs, self.test_images)
        return dict(zip(SPLITS, counts, strict=True))


def _seconds(*each: float) -> dict[str, float]:
    return dict(zip(WANTED, each, strict=True))


SIZES = {
    "small": Size(6000, 2000, 5000, 600, 2000, 400, 400, _seconds(24.0, 24.0)),
    "full": Size(20_000, 5000, 10_000, 1000, 10_000, 1000, 2000, _seconds(120.0, 180.0)),
}


class CutData:
    """Features of all channels of one cut, float32 and memory-mapped, and what policies ask for: a
    ``CutView``. ``folder`` holds the arrays; the process that makes them calls ``prepare``."""

    def __init__(self, cut: str, backbone: str, folder: Path, size: Size, secret: bytes = bytes(32)) -> None:
        self.cut, self.backbone, self.folder, self.size = cut, backbone, folder, size
        self.secret, self.purpose, self.seed = secret, f"{backbone.split(',')[0]} {INPUT_SIZE} {cut}", SEED

    def prepare(self) -> None:
        """Run the backbone over all splits."""
        data, encoder = open_data(DATA), make_encoder(self.splitter, cut=self.cut)
        for split, limit in self.size.limits.items():
            chosen = data.split(split, limit=limit)
            shape = (len(chosen), *encoder.feature_shape)
            stored = np.lib.format.open_memmap(
                self._path(split, "features"), "w+", dtype=np.float32, shape=shape
            )
            done = 0
            for images in chosen.batches(INPUT_SIZE, batch=_BATCH):
                stored[done : done + len(images)] = encoder.encode(images)
                done += len(images)
            np.save(self._path(split, "images"), chosen.images(data.reference_size))
            np.save(self._path(split, "labels"), chosen.labels)
        _ = self.moments, self.scatter

    @cached_property
    def splitter(self) -> Splitter:
        return Splitter(load_backbone(parse_backbone(self.backbone)), INPUT_SIZE)

    @property
    def channels(self) -> int:
        return int(self.features("test").shape[1])

    def features(self, split: str) -> NDArray[np.float32]:
        mapped: NDArray[np.float32] = np.load(self._path(split, "features"), mmap_mode="r")
        return mapped

    def images(self, split: str) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = np.load(self._path(split, "images"))
        return images

    def labels(self, split: str) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = np.load(self._path(split, "labels"))
        return labels

    @cached_property
    def moments(self) -> CutMoments:
        path = self.folder / f"{self.cut}-moments"
        if not path.exists():
            path.mkdir()
            splits = [split for split in SPLITS if split != "test"]
            CutMoments.of_cut(
                {split: self.features(split) for split in splits},
                {split: self.labels(split) for split in splits},
                {split: self.images(split) for split in splits},
                classes=10,
                seed=SEED,
            ).save(path)
        return CutMoments.load(path)

    @cached_property
    def scatter(self) -> ChannelScatter:
        path = self._path("scatter", "scatter").with_suffix(".npz")
        if not path.exists():
            np.savez(path, **vars(channel_scatter(*self.examples())))
        with np.load(path) as kept:
            return ChannelScatter(**kept)

    @property
    def fisher(self) -> NDArray[np.float64]:
        return fisher_scores(self.features("head-train"), self.labels("head-train"))

    @property
    def leakage_alone(self) -> NDArray[np.float64]:
        return np.array([self.leakage([channel]) for channel in range(self.channels)])

    accelerator = "cpu"

    def utility(self, selection: Any) -> float:
        return self.moments.utility(selection, scored_on="val")

    def leakage(self, selection: Any) -> float:
        return self.moments.leakage(selection)

    def examples(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]:
        return self.features("head-train"), self.labels("head-train"), self.images("head-train")

    def sent(self, split: str, selection: Selection) -> NDArray[np.float32]:
        """The selection's features of a split (n, D', h, w)."""
        whole = self.features(split)
        if not isinstance(selection, np.ndarray):
            return np.ascontiguousarray(whole[:, list(selection)])
        parts = [
            np.einsum("dc,nchw->ndhw", selection, whole[start : start + _BATCH], optimize=True)
            for start in range(0, len(whole), _BATCH)
        ]
        return np.ascontiguousarray(np.concatenate(parts), np.float32)

    def _path(self, split: str, what: str) -> Path:
        return self.folder / f"{self.cut}-{split}-{what}.npy"


def measure(view: CutData, policy: str, count: int, draw: int = 0) -> dict[str, Any]:
    """One row."""
    torch.set_num_threads(1)
    started = time.monotonic()
    selection = select(policy, {}, view, count)
    chosen = time.monotonic()
    sent = {split: view.sent(split, selection) for split in SPLITS if split != "select"}
    few = slice(0, view.size.attacked)
    train, val, test = (
        Pairs(sent[split][part], view.images(split)[part], view.labels(split)[part])
        for split, part in (("attack-train", slice(None)), ("attack-val", slice(None)), ("test", few))
    )
    encoder = (
        make_encoder(view.splitter, cut=view.cut, projection=selection)
        if isinstance(selection, np.ndarray)
        else make_encoder(view.splitter, cut=view.cut, channels=selection)
    )
    plain = make_encoder(view.splitter, cut=view.cut)
    held = AuditSubject(encoder, encoder, plain, encoder.spec).view(
        train, val, auxiliary=train.images[:0], captures=None
    )
    attacks, best = {}, None
    for attack in ATTACKS:
        if attack.name in WANTED:
            leakage = attack_features(
                held,
                test,
                attacks=[attack],
                seed=SEED,
                budget_s=view.size.attack_s[attack.name],
                accelerator="cpu",
            )
            (result,) = leakage.attacks
            attacks[attack.name] = result.document()
            scores = result.image_scores.psnr_db
            best = scores if best is None or scores.mean() > best.mean() else best
    attacked = time.monotonic()
    held_out = len(sent["head-train"]) // 10
    labels = view.labels("head-train")
    head = fit_head(
        FeatureSet(sent["head-train"][held_out:], labels[held_out:]),
        FeatureSet(sent["head-train"][:held_out], labels[:held_out]),
        classes=10,
        max_steps=view.size.head_steps,
        seed=SEED,
        accelerator="cpu",
    )
    hits = head.predict(sent["test"]) == view.labels("test")
    assert best is not None
    return {
        "cut": view.cut,
        "policy": policy,
        "count": count,
        "draw": draw,
        "accuracy": Score.mean(hits.astype(np.float64), SEED).document(),
        "psnr_db": Score.mean(best, SEED).document(),
        "r2": max(entry["r2"]["value"] for entry in attacks.values()),
        "attacks": {
            name: {
                "psnr_db": round(entry["psnr_db"]["value"], 3),
                "seconds": round(entry["fit"]["seconds"], 1),
                "stopped": entry["fit"]["stopped"],
            }
            for name, entry in attacks.items()
        },
        "seconds": {
            "selection": round(chosen - started, 2),
            "attacks": round(attacked - chosen, 1),
            "head": round(time.monotonic() - attacked, 1),
        },
        # one line each in the file; for intervals of differences
        "image_psnr_db": " ".join(f"{value:.2f}" for value in best),
        "image_hits": np.packbits(hits).tobytes().hex(),
    }


def wanted_rows() -> list[dict[str, Any]]:
    """The keys of all rows; within a cut those first that take longest."""
    return [
        {"cut": cut, "policy": policy, "count": count, "draw": draw}
        for cut, counts in CUTS.items()
        for policy in reversed(tuple(POLICIES))
        for count in counts
        for draw in range(DRAWS.get(policy, 1))
    ]


def run(
    rows: list[dict[str, Any]],
    folder: Path,
    backbone: str,
    size: Size,
    measured: MeasuredRows,
    workers: int,
) -> None:
    """Measure the rows of one cut and keep each when it is done."""
    cut = rows[0]["cut"]
    say(f"{cut}: features of all channels")
    CutData(cut, backbone, folder, size).prepare()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=count_work) as pool:
        futures = []
        for row in rows:
            view = CutData(cut, backbone, folder, size, secret=bytes([row["draw"]] * 32))
            options = {key: value for key, value in row.items() if key != "cut"}
            futures.append(pool.submit(measure, view, **options))
        for done, future in enumerate(as_completed(futures), 1):
            found = future.result()
            measured.add(found)
            say(
                f"{done} of {len(rows)}: {cut} {label(found)}: {found['psnr_db']['value']:.1f} dB, "
                f"{found['accuracy']['value']:.1%}, {found['seconds']}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=tuple(SIZES), default="small")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cut", choices=tuple(CUTS), action="append", help="only these; default: all")
    parser.add_argument("--policy", choices=tuple(POLICIES), action="append", help="only these; default: all")
    parser.add_argument("--show", action="store_true", help="only print what was measured")
    arguments = parser.parse_args()
    shared = shared_folder()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    size = SIZES[arguments.size]
    backbone = MOBILENET.format(shared=shared)
    setting = {
        "seed": SEED,
        "data": DATA,
        "data_digest": open_data(DATA).digest,
        "backbone": MOBILENET.split(",weights")[0],
        "input_size": INPUT_SIZE,
        "size": asdict(size),
        "workers": arguments.workers,
    }
    measured = MeasuredRows("privynet_selection", arguments.size, setting)
    left = [
        row
        for row in wanted_rows()
        if not arguments.show
        and not measured.has(row)
        and row["cut"] in (arguments.cut or CUTS)
        and row["policy"] in (arguments.policy or POLICIES)
    ]
    for cut in CUTS:
        of_cut = [row for row in left if row["cut"] == cut]
        if of_cut:
            with tempfile.TemporaryDirectory() as folder:
                run(of_cut, Path(folder), backbone, size, measured, arguments.workers)
    print(json.dumps(measured.setting))
    print(report(measured.rows, policies=tuple(POLICIES), attacks=WANTED, seed=SEED))


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
