"""How strong the attacks are: every one of them on six encoders, and against a decoder of the 2019 kind.

    python benchmarks/attack_strength.py --size small     # about 30 minutes on one core
    python benchmarks/attack_strength.py --size full

CIFAR-10; three cuts (early, middle, late) of the bundled backbone at 32 pixels and of MobileNetV2 at 64, half
of the channels kept, drawn with a fixed secret. Pairs from attack-train, early stopping on attack-val, scores
on images of test. Attackers that have images of another domain only get those of CIFAR-100.

The 2019 baseline is what He et al. (ACSAC 2019) invert with when they may query the encoder: a few transposed
convolutions, squared error, Adam at 1e-3. It gets the same pairs, the same validation pairs to keep its best
epoch by, features standardised per channel, and the same seconds, threads and precision. It is compared with
the pairs-only attack that is best on the validation pairs, image by image.

Finished rows are kept in ``results/attack_strength-SIZE.json`` and not run again; delete the file to do so.
"""

from __future__ import annotations

import argparse
import copy
import io
import itertools
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from privynet.artifacts import write_document
from privynet.data import DataSet, Score, open_data
from privynet.encoders import Splitter, load_backbone, make_encoder, parse_backbone, random_channels
from privynet.leakage import (
    ATTACKS,
    PAIRS_ATTACKS,
    AttackResult,
    AuditSubject,
    Pairs,
    Recogniser,
    View,
    attack_features,
    mean_image,
    score_images,
)
from privynet.leakage.accelerators import fast_precision

SEED = 0
SECRET = bytes(32)
MOBILENET = (
    "timm:mobilenetv2_100,pad_type=same,mean=0.5,std=0.5,"
    "weights={shared}/weights/mobilenetv2_100-imagenet.timm.safetensors"
)
ENCODERS = (
    ("bundled early", "bundled", 32, "blocks.1.2"),
    ("bundled middle", "bundled", 32, "blocks.4.2"),
    ("bundled late", "bundled", 32, "blocks.7.2"),
    ("mobilenetv2 early", MOBILENET, 64, "blocks.1.1"),
    ("mobilenetv2 middle", MOBILENET, 64, "blocks.3.3"),
    ("mobilenetv2 late", MOBILENET, 64, "blocks.5.2"),
)
BASELINE = "2019 decoder"
_BATCH = 64


@dataclass(frozen=True)
class Size:
    """How much is spent on a row."""

    pairs: int
    val_pairs: int
    test_images: int
    auxiliary_images: int
    budget_s: float


SIZES = {"small": Size(5000, 1000, 500, 2000, 20.0), "full": Size(10_000, 2000, 2000, 10_000, 120.0)}


class Baseline2019(nn.Module):
    """Transposed convolutions from (C, h, w) to 3 x R x R, at least three layers, ReLU between them."""

    def __init__(self, shape: tuple[int, int, int], image_size: int) -> None:
        super().__init__()
        doublings = max(0, (image_size // shape[1]).bit_length() - 1)
        layers = max(3, doublings)
        # On large grids narrower layers do better within the budget: they see more epochs.
        widest = 128 if doublings > 1 else 64
        widths = [shape[0], *(max(32, widest >> place) for place in range(layers - 1)), 3]
        modules: list[nn.Module] = []
        for place in range(layers):
            inputs, outputs = widths[place], widths[place + 1]
            if place < doublings:
                modules.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))
            else:
                modules.append(nn.ConvTranspose2d(inputs, outputs, 3, padding=1))
            modules.append(nn.ReLU())
        self.layers = nn.Sequential(*modules[:-1])

    def forward(self, features: Tensor) -> Tensor:
        images: Tensor = self.layers(features)
        return images


def baseline(train: Pairs, val: Pairs, test: Pairs, *, budget_s: float) -> tuple[NDArray[np.float32], float]:
    """The baseline's reconstructions of ``test`` (n, R, R, 3), and the seconds its training took."""
    torch.manual_seed(SEED)
    started = time.monotonic()
    mean = train.features.mean(axis=0, dtype=np.float64).astype(np.float32)
    std = train.features.std(axis=(0, 2, 3), dtype=np.float64).astype(np.float32)[:, None, None]
    std[std == 0] = 1
    cpu = torch.device("cpu")

    def inputs(pairs: Pairs, rows: Any) -> Tensor:
        standardised = torch.from_numpy((pairs.features[rows] - mean) / std)
        return standardised.contiguous(memory_format=torch.channels_last)

    def targets(pairs: Pairs, rows: Any) -> Tensor:
        return torch.from_numpy(pairs.images[rows]).permute(0, 3, 1, 2).float() / 255

    def rebuilt(pairs: Pairs) -> Tensor:
        with torch.inference_mode(), fast_precision(cpu):
            parts = [
                model(inputs(pairs, slice(at, at + _BATCH))).float().clamp(0, 1)
                for at in range(0, len(pairs), _BATCH)
            ]
        return torch.cat(parts)

    model = Baseline2019(train.feature_shape, train.image_size).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rng, best, best_error = np.random.default_rng(SEED), copy.deepcopy(model.state_dict()), np.inf
    truth = targets(val, slice(None))
    while time.monotonic() - started < budget_s:
        order = rng.permutation(len(train))
        for start in range(0, len(order), _BATCH):
            if time.monotonic() - started > budget_s:
                break
            rows = np.sort(order[start : start + _BATCH])
            with fast_precision(cpu):
                out = model(inputs(train, rows))
            loss = nn.functional.mse_loss(out.float(), targets(train, rows))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        error = float((rebuilt(val) - truth).square().mean())
        if error < best_error:
            best, best_error = copy.deepcopy(model.state_dict()), error
    seconds = time.monotonic() - started
    model.load_state_dict(best)
    images: NDArray[np.float32] = rebuilt(test).permute(0, 2, 3, 1).contiguous().numpy()
    return images, seconds


class Bench:
    """Data that all encoders share, and the rows found so far."""

    def __init__(self, size: str, budget_s: float | None, shared: Path, results: Path) -> None:
        self.size = replace(SIZES[size], budget_s=budget_s or SIZES[size].budget_s)
        self.shared, self.results = shared, results
        self.data: DataSet = open_data("cifar10")
        self.document: dict[str, Any] = {
            "size": {"name": size, **self.size.__dict__},
            "seed": SEED,
            "threads": torch.get_num_threads(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
            "rows": {},
        }
        if results.exists():
            kept = json.loads(results.read_text())
            if any(kept[key] != self.document[key] for key in ("size", "seed", "threads")):
                sys.exit(f"error: {results} was made with other settings; delete it to start again")
            self.document["rows"] = kept["rows"]

    @property
    def rows(self) -> dict[str, Any]:
        rows: dict[str, Any] = self.document["rows"]
        return rows

    @cached_property
    def recogniser(self) -> Recogniser:
        split = self.data.split("head-train", limit=10_000)
        return Recogniser.train(split.images(32), split.labels, classes=10, seed=SEED)

    @cached_property
    def auxiliary(self) -> NDArray[np.uint8]:
        with np.load(self.shared / "data" / "cifar100_webp.npz") as archive:
            blob, offsets = archive["train_webp"], archive["train_offsets"]
            return np.stack(
                [
                    np.asarray(Image.open(io.BytesIO(blob[start:stop].tobytes())).convert("RGB"))
                    for start, stop in itertools.pairwise(offsets[: self.size.auxiliary_images + 1])
                ]
            )

    def run(self, name: str, backbone: str, input_size: int, cut: str) -> None:
        """Every attack on one encoder, and the baseline."""
        splitter = Splitter(load_backbone(parse_backbone(backbone.format(shared=self.shared))), input_size)
        available = splitter.cut(cut).channels
        kept = random_channels(SECRET, available=available, count=available // 2, purpose=name)
        encoder = make_encoder(splitter, cut=cut, channels=splitter.order(cut, kept))
        subject = AuditSubject.of_spec(encoder.spec)
        train, val, test = (
            Pairs(encoder.encode(split.images(input_size)), split.images(32), split.labels)
            for split in (
                self.data.split("attack-train", limit=self.size.pairs),
                self.data.split("attack-val", limit=self.size.val_pairs),
                self.data.split("test", limit=self.size.test_images),
            )
        )
        view = subject.view(train, val, auxiliary=self.auxiliary, captures=None)
        row: dict[str, Any] = {
            "backbone": backbone.split(",")[0],
            "cut": cut,
            "channels": len(kept),
            "feature_shape": list(encoder.feature_shape),
            "attacks": {},
        }
        results = {}
        for attack in (attack for attack in ATTACKS if set(attack.knows) <= view.known):
            say(f"{name}: {attack.name}")
            (results[attack.name],) = self._attack(view, test, attack, encoder.spec.channels)
            row["attacks"][attack.name] = results[attack.name].document()
        pairs_only = [result for result in results.values() if result.knows == ("pairs",)]
        best = max(pairs_only, key=lambda result: result.fit.get("val_psnr_db", -np.inf))
        say(f"{name}: {BASELINE}")
        images, seconds = baseline(train, val, test, budget_s=self.size.budget_s)
        scores = score_images(images, test.images, mean_image=mean_image(train.images))
        scores = scores.recognised_by(self.recogniser, images, test.images, test.labels)
        row["baseline"] = {**scores.summary(seed=SEED).document(), "seconds": seconds}
        row["best_on_val"] = best.attack
        row["gains_db"] = {
            # one line each in the file
            result.attack: " ".join(f"{gain:.3f}" for gain in result.image_scores.psnr_db - scores.psnr_db)
            for result in pairs_only
        }
        self.rows[name] = row
        write_document(self.results, "benchmark", self.document)

    def _attack(
        self, view: View, test: Pairs, attack: Any, channels: tuple[int, ...]
    ) -> tuple[AttackResult, ...]:
        return attack_features(
            view,
            test,
            attacks=[attack],
            recogniser=self.recogniser,
            channels=channels,
            seed=SEED,
            budget_s=self.size.budget_s,
            accelerator="cpu",
        ).attacks


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def show(rows: dict[str, Any]) -> None:
    """The table."""
    columns = ("encoder", "attack", "PSNR (dB)", "SSIM", "re-id pixels", "re-id features", "seconds", "found")
    print(("{:20}{:18}{:>24}{:>8}{:>14}{:>16}{:>9}{:>8}").format(*columns))
    for name, row in rows.items():
        for attack, entry in {**row["attacks"], BASELINE: row["baseline"]}.items():
            psnr = entry["psnr_db"]
            text = f"{psnr['value']:.2f} ({psnr['ci95'][0]:.2f} to {psnr['ci95'][1]:.2f})"
            fit = entry.get("fit", entry)
            print(
                f"{name:20}{attack:18}{text:>24}{entry['ssim']['value']:8.3f}"
                f"{entry['reidentification']['value']:14.1%}"
                f"{entry['reidentification_features']['value']:16.1%}{fit['seconds']:9.1f}"
                + (f"{fit['found']:8.0%}" if "found" in fit else "")
            )
    print(f"\npairs-only attacks less the {BASELINE}, paired over images; * is best on the validation pairs:")
    columns = [attack.name for attack in PAIRS_ATTACKS]
    print(f"  {'':20}" + "".join(f"{name:>26}" for name in columns))
    for name, row in rows.items():
        cells = [gain_text(gains(row, attack)) for attack in columns]
        cells = [
            f"{'*' if row['best_on_val'] == attack else ''}{cell}"
            for attack, cell in zip(columns, cells, strict=True)
        ]
        print(f"  {name:20}" + "".join(f"{cell:>26}" for cell in cells))
    means = [np.mean([gains(row, attack) for row in rows.values()], axis=0) for attack in columns]
    print(f"  {'mean':20}" + "".join(f"{gain_text(mean):>26}" for mean in means))
    best = np.mean([gains(row, row["best_on_val"]) for row in rows.values()], axis=0)
    print(f"  mean of the best on validation pairs (which took as long as all four): {gain_text(best)}")


def gains(row: dict[str, Any], attack: str) -> NDArray[np.float64]:
    """(n,) dB that an attack gains over the baseline, image by image."""
    return np.array(row["gains_db"][attack].split(), np.float64)


def gain_text(values: NDArray[np.float64]) -> str:
    """dB with its 95 % interval over images."""
    score = Score.mean(values, SEED)
    return f"{score.value:+.2f} ({score.ci95[0]:+.2f} to {score.ci95[1]:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--budget", type=float, help="seconds for each attack, if not the size's")
    parser.add_argument("--encoder", choices=[name for name, *_ in ENCODERS], action="append")
    arguments = parser.parse_args()
    shared = os.environ.get("PRIVYNET_SHARED")
    if shared is None:
        sys.exit("error: set PRIVYNET_SHARED to the folder with data/ and weights/")
    os.environ.setdefault("PRIVYNET_DATA", f"{shared}/data")
    results = Path(__file__).parent / "results" / f"attack_strength-{arguments.size}.json"
    results.parent.mkdir(exist_ok=True)
    bench = Bench(arguments.size, arguments.budget, Path(shared), results)
    for name, backbone, input_size, cut in ENCODERS:
        if name not in bench.rows and (not arguments.encoder or name in arguments.encoder):
            bench.run(name, backbone, input_size, cut)
    if bench.rows:
        show(bench.rows)


if __name__ == "__main__":
    main()
