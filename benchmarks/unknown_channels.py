"""How often the channels that an encoder keeps are found from the features it sends.

    PRIVYNET_SHARED=... PRIVYNET_DATA=$PRIVYNET_SHARED/data python benchmarks/unknown_channels.py --size small

PrivyNet (arXiv 1709.06161) argues that its encoder is protected because nobody knows which of the backbone's
channels it keeps. Here an attacker has the public backbone, the mean image, images of another domain
(CIFAR-100, or dead-leaves images, which anybody can draw) and features of some CIFAR-10 images he has not
seen: which channels does ``match`` find? Reported per cut, number of kept channels and number of observed
images: the share of channels found at their place, and the share of draws in which all were, over random
draws of channels and images; chance beside them. A draw takes about a second or less on one core; there is no
other budget.

CIFAR-100 is read from ``cifar100_webp.npz`` (images recompressed as WebP), MobileNetV2's weights are timm's.
Finished rows lie in ``benchmarks/results/unknown_channels-SIZE.json`` and are not computed again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import beta

from privynet.data import Score, open_data
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.leakage import mean_image
from privynet.leakage.attacks.channel_matching import Candidates, MeanImages, match
from privynet.leakage.auxiliary import dead_leaves

RESULTS = Path(__file__).parent / "results"
SHARED = Path(os.environ.get("PRIVYNET_SHARED", "../shared"))
INPUT_SIZE = 32
BACKBONES = {
    "plain8": ("bundled:plain8", {"early": "blocks.1.2", "middle": "blocks.3.2", "late": "blocks.6.2"}),
    "mobilenetv2": (
        "timm:mobilenetv2_100,pad_type=same,weights="
        f"{SHARED / 'weights' / 'mobilenetv2_100-imagenet.timm.safetensors'},mean=0.5,std=0.5",
        {"early": "blocks.1.0.bn1", "middle": "blocks.2.0.bn1", "late": "blocks.4.2"},
    ),
}
AUXILIARY = ("cifar100", "dead leaves")
AUXILIARY_IMAGES = 1000
OBSERVATIONS = (10, 100, 1000)
DRAWS = {"small": 20, "full": 200}
POOL = {"small": 2000, "full": 4000}
SEED = 0


@dataclass(frozen=True)
class Row:
    """One cell of the table: ``kept`` of ``available`` channels, from features of so many images."""

    backbone: str
    cut: str
    auxiliary: str
    kept: int
    available: int
    observations: int

    @property
    def key(self) -> str:
        """In the results."""
        return f"{self.backbone} {self.cut} {self.auxiliary} {self.kept} {self.observations}"


def cifar100(count: int) -> NDArray[np.uint8]:
    """``count`` training images of the recompressed CIFAR-100, uint8 (count, 32, 32, 3)."""
    archive = np.load(SHARED / "data" / "cifar100_webp.npz")
    blob, offsets = archive["train_webp"], archive["train_offsets"]
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(offsets) - 1)[:count])
    files = (io.BytesIO(blob[offsets[index] : offsets[index + 1]].tobytes()) for index in chosen)
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def kept_counts(available: int) -> list[int]:
    """8, 32 and half of the channels, where that leaves some out."""
    return sorted({count for count in (8, 32, available // 2) if count < available})


def measure(row: Row, observed: NDArray[np.float32], candidates: Candidates, *, draws: int) -> dict[str, Any]:
    """Attack ``draws`` encoders with random channels, each from random images."""
    shares, seconds = [], []
    for draw in range(draws):
        rng = np.random.default_rng([SEED, draw])
        kept = rng.permutation(row.available)[: row.kept]
        images = rng.permutation(len(observed))[: row.observations]
        sent = observed[images][:, kept]
        started = time.perf_counter()
        found = match(sent, candidates).channels
        seconds.append(time.perf_counter() - started)
        shares.append(float((found == kept).mean()))
    complete = sum(share == 1 for share in shares)
    return {
        "found": Score.mean(shares, SEED).document(),
        "all_found": {"value": complete / draws, "ci95": list(clopper_pearson(complete, draws)), "n": draws},
        "chance": 1 / row.available,
        "chance_all": math.exp(math.lgamma(row.available - row.kept + 1) - math.lgamma(row.available + 1)),
        "seconds_median": float(np.median(seconds)),
    }


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper and Pearson 1934)."""
    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def rows_of(backbone: str) -> Iterator[tuple[Encoder, list[Row]]]:
    """The whole backbone up to each cut, and what is to be measured there."""
    name, cuts = BACKBONES[backbone]
    splitter = Splitter(load_backbone(parse_backbone(name)), INPUT_SIZE)
    for place, cut in cuts.items():
        encoder = make_encoder(splitter, cut=cut)
        available = encoder.feature_shape[0]
        yield (
            encoder,
            [
                Row(backbone, f"{place} {cut}", auxiliary, kept, available, observations)
                for auxiliary in AUXILIARY
                for observations in OBSERVATIONS
                for kept in kept_counts(available)
            ],
        )


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=list(DRAWS), default="small")
    size = parser.parse_args().size
    torch.set_num_threads(1)
    path = RESULTS / f"unknown_channels-{size}.json"
    document = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    document.update(
        draws=DRAWS[size],
        seed=SEED,
        auxiliary_images=AUXILIARY_IMAGES,
        observed_images_from=f"cifar10 attack-val, {POOL[size]} images",
        input_size=INPUT_SIZE,
        threads=1,
        machine={
            "platform": f"{platform.system()} {platform.machine()}",
            "cpus": os.cpu_count(),
            "torch": torch.__version__,
        },
    )
    private = open_data("cifar10").split("attack-val", limit=POOL[size]).images(INPUT_SIZE)
    auxiliary = {
        "cifar100": cifar100(AUXILIARY_IMAGES),
        "dead leaves": dead_leaves(AUXILIARY_IMAGES, INPUT_SIZE, seed=SEED),
    }
    blind = mean_image(private)
    for backbone in BACKBONES:
        for encoder, rows in rows_of(backbone):
            missing = [row for row in rows if row.key not in document["rows"]]
            if missing:
                run(encoder, missing, private, auxiliary, blind, document, path, draws=DRAWS[size])
    print(table(document))


def run(
    encoder: Encoder,
    rows: list[Row],
    private: NDArray[np.uint8],
    auxiliary: dict[str, NDArray[np.uint8]],
    blind: NDArray[np.float32],
    document: dict[str, Any],
    path: Path,
    *,
    draws: int,
) -> None:
    """Measure the rows of one cut; each is kept as soon as it is there."""
    observed = encoder.encode(private)

    def of_mean(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            features: NDArray[np.float32] = encoder.graph_module(torch.from_numpy(255 * image[None]))[
                0
            ].numpy()
        return features

    for name, images in auxiliary.items():
        features = encoder.encode(images)
        means = MeanImages(of_mean(blind), lambda chosen, images=images: of_mean(mean_image(images[chosen])))
        for observations in OBSERVATIONS:
            wanted = [row for row in rows if (row.auxiliary, row.observations) == (name, observations)]
            if not wanted:
                continue
            candidates = Candidates(features, observations, SEED, means)
            for row in wanted:
                document["rows"][row.key] = {
                    **vars(row),
                    **measure(row, observed, candidates, draws=draws),
                }
                path.parent.mkdir(exist_ok=True)
                partial = path.with_suffix(".tmp")
                partial.write_text(json.dumps(document, indent=1) + "\n")
                partial.replace(path)
                found = document["rows"][row.key]["found"]["value"]
                print(f"{row.key}: {found:.1%}", file=sys.stderr, flush=True)


def table(document: dict[str, Any]) -> str:
    """The results as text."""
    head = f"{'backbone and cut':34} {'other domain':12} {'kept':>9} {'observed':>8}"
    head += "  channels found (95 %)    chance  all found (95 %)"
    lines = [f"{document['draws']} draws a row, one thread, {document['machine']}", head]
    for row in document["rows"].values():
        found, complete = row["found"], row["all_found"]
        lines.append(
            f"{row['backbone'] + ' ' + row['cut']:34} {row['auxiliary']:12} "
            f"{row['kept']:>3} of {row['available']:<3}{row['observations']:>8}  "
            f"{found['value']:7.1%} ({found['ci95'][0]:6.1%} to {found['ci95'][1]:6.1%}) "
            f"{row['chance']:6.1%}  "
            f"{complete['value']:5.0%} ({complete['ci95'][0]:4.0%} to {complete['ci95'][1]:4.0%})"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
