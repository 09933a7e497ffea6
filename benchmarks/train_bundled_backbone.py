"""Train the bundled backbone on CIFAR-100 and write its weights and its card.

    python benchmarks/train_bundled_backbone.py --data ../shared/data/cifar100_webp.npz --size small

``small`` (36 epochs) is the recipe of the shipped weights and fits an hour of two cores; ``full`` is 200
epochs. Interrupted, the same command goes on from the last finished epoch. The score is taken once, at
the end, on the 10,000 test images, with the half-precision weights that are shipped.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from privynet.encoders import bundled

EPOCHS = {"small": 36, "full": 200}
BATCH = 256
MAX_LEARNING_RATE = 0.4
WEIGHT_DECAY = 5e-4
LABEL_SMOOTHING = 0.1
PADDING = 4
ROOT = Path(__file__).resolve().parents[1]


def decode(archive: np.lib.npyio.NpzFile, part: str) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, 32, 32) and int64 labels (N,) of one part of the WebP archive."""
    blob, offsets = archive[f"{part}_webp"], archive[f"{part}_offsets"]
    images = np.empty((len(offsets) - 1, 32, 32, 3), np.uint8)
    for index in range(len(images)):
        data = blob[offsets[index] : offsets[index + 1]].tobytes()
        images[index] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    labels = torch.from_numpy(archive[f"{part}_labels"].astype(np.int64))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def normalise(images: Tensor) -> Tensor:
    mean = torch.tensor(bundled.MEAN).view(1, 3, 1, 1)
    std = torch.tensor(bundled.STD).view(1, 3, 1, 1)
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random shifts of up to four pixels (one a image, zero padding) and mirror images."""
    n, _, height, width = images.shape
    padded = F.pad(images, (PADDING,) * 4, value=127)
    dy, dx = torch.randint(0, 2 * PADDING + 1, (2, n), generator=generator)
    rows = (dy[:, None] + torch.arange(height))[:, None, :, None]
    columns = dx[:, None] + torch.arange(width)
    flip = torch.rand(n, generator=generator) < 0.5
    columns = torch.where(flip[:, None], columns.flip(1), columns)[:, None, None, :]
    index = torch.arange(n)[:, None, None, None]
    channel = torch.arange(3)[None, :, None, None]
    return padded[index, channel, rows, columns]


@torch.inference_mode()
def correct(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    net.eval()
    parts = [net(normalise(images[at : at + 500])).argmax(1) for at in range(0, len(images), 500)]
    return torch.cat(parts) == labels


def train(
    net: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, seed: int, checkpoint: Path
) -> float:
    """Train in place; returns the seconds it took, interrupted runs included."""
    optimiser = torch.optim.SGD(
        net.parameters(), MAX_LEARNING_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, MAX_LEARNING_RATE, total_steps=steps * epochs, pct_start=0.25
    )
    first, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        first, seconds = state["epoch"], state["seconds"]
    for epoch in range(first, epochs):
        started = time.perf_counter()
        net.train()
        generator = torch.Generator().manual_seed(seed * 1000 + epoch)
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            inputs = normalise(augment(images[batch], generator))
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(net(inputs), labels[batch], label_smoothing=LABEL_SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        seconds += time.perf_counter() - started
        state = {
            "net": net.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "epoch": epoch + 1,
            "seconds": seconds,
        }
        partial = checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(checkpoint)
        print(f"epoch {epoch + 1}/{epochs}  loss {total / steps:.4f}  {seconds:.0f} s", flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="cifar100_webp.npz")
    parser.add_argument("--size", choices=sorted(EPOCHS), default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "encoders" / "weights")
    parser.add_argument("--work", type=Path, default=ROOT / ".work", help="checkpoints lie here")
    options = parser.parse_args()

    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    epochs = EPOCHS[options.size]
    with np.load(options.data, allow_pickle=False) as archive:
        train_images, train_labels = decode(archive, "train")
        test_images, test_labels = decode(archive, "test")
    net = bundled.Plain8().to(memory_format=torch.channels_last)
    checkpoint = options.work / f"plain8-{options.size}-{options.seed}.pt"
    seconds = train(net, train_images, train_labels, epochs=epochs, seed=options.seed, checkpoint=checkpoint)

    options.out.mkdir(parents=True, exist_ok=True)
    weights = options.out / "plain8.safetensors"
    half = {
        name: tensor.half().contiguous()
        for name, tensor in net.state_dict().items()
        if tensor.is_floating_point()
    }
    save_file(half, weights)
    weights.chmod(0o644)
    shipped = bundled.Plain8()
    shipped.load_state_dict(
        {name: tensor.float() for name, tensor in load_file(weights).items()}, strict=False
    )
    hits = correct(shipped, test_images, test_labels).double()
    accuracy, margin = hits.mean().item(), 1.96 * hits.std().item() / len(hits) ** 0.5
    card = {
        "name": "plain8",
        "data": "CIFAR-100 (Krizhevsky 2009), 50,000 training images, recompressed as WebP quality 90",
        "mean": bundled.MEAN,
        "std": bundled.STD,
        "input_size": bundled.INPUT_SIZE,
        "classes": bundled.CLASSES,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "recipe": {
            "script": "benchmarks/train_bundled_backbone.py",
            "size": options.size,
            "seed": options.seed,
            "epochs": epochs,
            "batch": BATCH,
            "optimiser": "SGD, Nesterov momentum 0.9",
            "schedule": "one cycle, 25 % warm-up",
            "max_learning_rate": MAX_LEARNING_RATE,
            "weight_decay": WEIGHT_DECAY,
            "label_smoothing": LABEL_SMOOTHING,
            "augmentation": f"shift up to {PADDING} pixels, mirror",
            "precision": "bfloat16 autocast, float32 weights, stored as float16",
        },
        "score": {
            "metric": "top-1",
            "split": "test",
            "value": accuracy,
            "ci95": [accuracy - margin, accuracy + margin],
            "n": len(hits),
        },
        "train_seconds": round(seconds, 1),
        "machine": {
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "licence": "Apache-2.0",
    }
    (options.out / "plain8.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
