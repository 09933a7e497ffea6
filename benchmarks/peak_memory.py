"""Peak memory of encoders as predicted, from the network and from the file, and as ONNX Runtime takes it.

    python benchmarks/peak_memory.py --size small     # about 10 minutes on two busy cores
    python benchmarks/peak_memory.py --size full

Encoders with a predicted peak above 4 MB, random weights. Measured: growth of VmHWM over the first run in a
fresh process, memory arena off, one thread (the measuring protocol's ``agent.py --memory``), and the input,
which the caller holds; median of several processes, and their range. Each encoder in three ways:

- ``plain``: without ONNX Runtime's blocked layout, which only its x86 builds have. The graph is then that of
  64-bit Arm, which the prediction is for.
- ``x86``: as ONNX Runtime comes. Here a blocked layout rounds channels up to 16 and is copied where it begins
  and ends, and additions and hard-swish are done inside convolutions.
- ``heap``: like x86, and glibc's allocator as it comes too: it learns to take large tensors from its heap,
  which then has holes. In the other two each large tensor is its own mapping, gone when it is freed.

``code`` is the part that is pages of the runtime's own file, read when its code is first used. The rules of
the prediction were found on the encoders marked ``chosen``; the others were measured when they stood.

Finished rows are kept in ``results/peak_memory-SIZE.json`` and not measured again; delete the file to do so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measured_rows import MeasuredRows

from privynet.device_profiles import graph_costs
from privynet.device_profiles.measuring import agent
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import write_onnx

MOBILENET = "timm:mobilenetv2_100,pad_type=same"
CHOSEN = (
    # backbone, input size, cut, share of its channels
    ("bundled", 128, 1, 1.0),
    ("bundled", 256, 0, 1.0),
    ("bundled", 256, 3, 0.5),
    ("bundled", 256, 6, 0.5),
    (MOBILENET, 512, 0, 1.0),
    (MOBILENET, 384, 2, 0.5),
    (MOBILENET, 320, 7, 0.5),
    ("torchvision:resnet18", 256, 3, 0.5),
    ("torchvision:resnet18", 320, 8, 1.0),
    ("torchvision:mobilenet_v3_large", 448, 6, 0.5),
    ("torchvision:squeezenet1_1", 320, 4, 0.5),
    ("torchvision:densenet121", 224, -3, 0.5),
    ("torchvision:shufflenet_v2_x1_0", 512, 5, 0.5),
    ("torchvision:efficientnet_b0", 320, 4, 0.5),
    ("torchvision:convnext_tiny", 256, 2, 0.5),
    ("timm:repvgg_a2", 256, 3, 0.5),
)
HELD_OUT = (
    ("torchvision:resnet50", 224, 3, 0.5),
    ("torchvision:resnet50", 320, 7, 1.0),
    ("torchvision:resnext50_32x4d", 256, 5, 0.5),
    ("torchvision:vgg11", 224, 3, 0.5),
    ("torchvision:vgg16_bn", 224, -2, 0.5),
    ("torchvision:mnasnet1_0", 384, 5, 0.5),
    ("torchvision:mobilenet_v2", 448, 9, 0.5),
    ("torchvision:mobilenet_v3_small", 512, 3, 1.0),
    ("torchvision:efficientnet_v2_s", 256, 3, 0.5),
    ("torchvision:googlenet", 320, 3, 0.5),
    ("torchvision:inception_v3", 299, 3, 0.5),
    ("torchvision:regnet_x_400mf", 448, 4, 0.5),
    ("torchvision:densenet169", 224, 4, 0.5),
    ("timm:ghostnet_100", 384, 3, 0.5),
    ("timm:fbnetc_100", 384, 6, 0.5),
)
PROCESSES = {"small": 3, "full": 10}

_WITHOUT_BLOCKED_LAYOUT = """
import functools, runpy, sys, onnxruntime
onnxruntime.InferenceSession = functools.partial(
    onnxruntime.InferenceSession, disabled_optimizers=["NchwcTransformer"]
)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
_OWN_MAPPINGS = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Set, glibc's threshold does not grow."""
WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "plain": (("-c", _WITHOUT_BLOCKED_LAYOUT), _OWN_MAPPINGS),
    "x86": ((), _OWN_MAPPINGS),
    "heap": ((), {}),
}


@dataclass(frozen=True)
class Row:
    """One encoder to measure."""

    backbone: str
    size: int
    cut: int
    share: float
    chosen: bool

    @property
    def key(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "size": self.size, "cut": self.cut, "share": self.share}

    def encoder(self) -> Encoder:
        torch.manual_seed(0)
        weights = None if self.backbone == "bundled" else "random"
        backbone = load_backbone(parse_backbone(self.backbone, weights=weights))
        if weights == "random":
            # Without a bias, as networks have when training begins, additions are not part of convolutions.
            for name, tensor in backbone.module.state_dict().items():
                if name.endswith(("bias", "running_mean")):
                    tensor.uniform_(-0.1, 0.1)
        splitter = Splitter(backbone, self.size)
        cut = splitter.cuts[self.cut]
        kept = max(1, int(cut.channels * self.share))
        return make_encoder(splitter, cut=cut.name, channels=range(kept))


def measured_kb(path: Path, way: str, processes: int) -> dict[str, Any]:
    """What the first run takes: ``median``, ``least``, ``most``, and what of it is ``code``; KiB."""
    before, environment = WAYS[way]
    command = [sys.executable, *before, agent.__file__, "--model", str(path), "--memory"]
    taken, code = [], []
    for _ in range(processes):
        done = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        result = json.loads(done.stdout.splitlines()[-1])
        taken.append(result["peak_growth_kb"] + result["inputs_kb"])
        code.append(result["file_growth_kb"])
    return {
        "median": statistics.median(taken),
        "least": min(taken),
        "most": max(taken),
        "code": statistics.median(code),
    }


def measure(row: Row, processes: int) -> dict[str, Any]:
    encoder = row.encoder()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        write_onnx(encoder, path)
        return {
            **row.key,
            "cut_name": encoder.spec.cut,
            "chosen": row.chosen,
            "traced_kb": encoder.costs.peak_ram_kb,
            "exported_kb": graph_costs(path).peak_ram_kb,
            **{way: measured_kb(path, way, processes) for way in WAYS},
        }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| encoder | predicted, network / file | plain (range; code) | ratio | x86 | ratio | heap | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: not row["chosen"]):
        name = row["backbone"].split(",")[0].split(":")[-1]
        plain = row["plain"]
        mark = " (chosen)" if row["chosen"] else ""
        columns = [
            f"{name}, {row['size']}, {row['cut_name']}{mark}",
            f"{row['traced_kb']:.0f} / {row['exported_kb']:.0f}",
            f"{plain['median']:.0f} ({plain['least']:.0f}..{plain['most']:.0f}; {plain['code']:.0f})",
            f"{ratio(row, 'plain'):.2f}",
        ]
        for way in ("x86", "heap"):
            columns += [f"{row[way]['median']:.0f}", f"{ratio(row, way):.2f}"]
        lines.append("| " + " | ".join(columns) + " |")
    for chosen, title in ((True, "chosen on"), (False, "held out")):
        some = [row for row in rows if row["chosen"] is chosen]
        within = {way: sum(abs(ratio(row, way) - 1) <= 0.2 for row in some) for way in WAYS}
        found = ", ".join(f"{way} {count}" for way, count in within.items())
        lines.append(f"\nwithin 20 %, of {len(some)} {title}: {found}")
    return "\n".join(lines)


def ratio(row: dict[str, Any], way: str) -> float:
    """Measured / predicted."""
    return float(row[way]["median"]) / float(row["exported_kb"])


def main() -> None:
    parser = argparse.ArgumentParser(description="peak memory, predicted and measured")
    parser.add_argument("--size", choices=tuple(PROCESSES), default="small")
    size = parser.parse_args().size
    torch.set_num_threads(1)
    setting = {
        "processes": PROCESSES[size],
        **{name: importlib.metadata.version(name) for name in ("onnxruntime", "timm", "torchvision")},
    }
    results = MeasuredRows("peak_memory", size, setting)
    for chosen, rows in ((True, CHOSEN), (False, HELD_OUT)):
        for row in (Row(*each, chosen) for each in rows):
            if not results.has(row.key):
                print(row.key, file=sys.stderr, flush=True)
                results.add(measure(row, PROCESSES[size]))
    print(table(results.rows))


if __name__ == "__main__":
    main()
