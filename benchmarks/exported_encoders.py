"""What exports of eight encoders are like: sizes, parity, int8's signal, runtimes, and another processor.

    PRIVYNET_SHARED=../shared python benchmarks/exported_encoders.py --size small   # about 5 minutes
    PRIVYNET_SHARED=../shared python benchmarks/exported_encoders.py --size small --python ARM_PYTHON

Each encoder is cut in the middle of its network, with half of the channels there. Only the bundled network
and MobileNetV2 have trained weights, the others random ones: sizes, kernels and parity do not depend on them,
the signal of int8 does. With ``--python``, a Python of another processor that runs here (an emulated one, as
the tests make for 64-bit Arm), each file is run by it too, and the outputs are compared.

Finished rows are kept in ``results/exported_encoders-SIZE.json`` and not made again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from measured_rows import MeasuredRows
from numpy.typing import NDArray
from shared_inputs import MOBILENET, shared_folder

from privynet.artifacts import session_options
from privynet.data import open_data
from privynet.device_profiles import open_target, replay
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone, write_projection
from privynet.exporters import export
from privynet.exporters.agreement import compare

PROJECTED = "bundled, projection"
ENCODERS = {
    "bundled": ("bundled", 32),
    "vgg16": ("torchvision:vgg16,weights=random", 96),
    "resnet18": ("torchvision:resnet18,weights=random", 96),
    "mobilenet_v2": (MOBILENET, 96),
    "mobilenet_v3_small": ("torchvision:mobilenet_v3_small,weights=random", 96),
    "efficientnet_lite0": ("timm:efficientnet_lite0,weights=random", 96),
    "mobilenetv4_conv_small": ("timm:mobilenetv4_conv_small,weights=random", 96),
    PROJECTED: ("bundled", 32),
}
"""Backbone and input size."""
PRECISIONS = ("fp32", "int8")
INTEGERS = {"QLinear", "Quantize", "Dequantize"}
MOVES = {"Cast", "Concat", "Flatten", "MaxPool", "Pad", "Reshape", "Slice", "Split", "Transpose"}
"""Operators that compute nothing, or the same on integers."""


@dataclass(frozen=True)
class Size:
    """Images to calibrate on, and to compare two processors on."""

    calibration: int
    compared: int


SIZES = {"small": Size(64, 16), "full": Size(256, 256)}


def made(name: str, shared: str) -> Encoder:
    """One of ``ENCODERS``."""
    backbone, input_size = ENCODERS[name]
    splitter = Splitter(load_backbone(parse_backbone(backbone.format(shared=shared))), input_size)
    cut = splitter.cuts[len(splitter.cuts) // 2]
    if name == PROJECTED:
        shape = (cut.channels // 2, cut.channels)
        matrix = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        return make_encoder(splitter, cut=cut.name, projection=matrix)
    return make_encoder(splitter, cut=cut.name, channels=range(0, cut.channels, 2))


def row(encoder: Encoder, precision: Any, images: NDArray[np.uint8], size: Size, python: str | None) -> Any:
    """One export, calibrated on the first images, and what it is like; the others compare processors."""
    with tempfile.TemporaryDirectory() as folder:
        spec, artifact = Path(folder) / "encoder.json", Path(folder) / "artifact"
        encoder.spec.write(spec)
        projection = None
        if encoder.projection is not None:
            projection = str(Path(folder) / "projection.safetensors")
            write_projection(encoder.projection, Path(projection))
        start = time.perf_counter()
        result = export(
            spec,
            out=artifact,
            precision=precision,
            calibration_images=images[: size.calibration],
            formats=["ort"],
            projection_weights=projection,
        )
        found = {
            "export_s": time.perf_counter() - start,
            "kb": {
                name: file["bytes"] / 1024 for name, file in result["files"].items() if "encoder." in name
            },
            "max_abs_error": result["parity"]["max_abs_error"],
            "max_abs_output": result["parity"]["max_abs_output"],
            "sqnr_db": result["int8"]["sqnr_db"] if result["int8"] else None,
            "runtimes": result["runtimes"],
            "float_nodes": float_nodes(artifact / "encoder.onnx"),
        }
        if python is not None:
            found["other_processor"] = other_processor(
                artifact / "encoder.onnx", images[size.calibration :], python
            )
    return found


def float_nodes(model: Path) -> dict[str, int]:
    """Nodes that compute on float32 once ONNX Runtime has fused what it can, by operator."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    return dict(
        Counter(
            node.op_type
            for node in graph.node
            if node.op_type not in MOVES and not any(node.op_type.startswith(one) for one in INTEGERS)
        )
    )


def other_processor(model: Path, images: NDArray[np.uint8], python: str) -> dict[str, Any]:
    """How far outputs are from those of this processor."""
    sent = []
    for one in (sys.executable, python):
        with open_target("local", python=one) as target:
            sent.append(replay(model, {"images": images}, target=target))
    found = compare(sent[1].output, sent[0].output)
    return {
        "architecture": sent[1].machine["architecture"],
        "max_abs_error": found.max_abs_error,
        "max_abs_output": found.max_abs_output,
        "share_that_differs": float(np.mean(sent[0].output != sent[1].output)),
        "noise": found.noise,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each export."""
    head = ("encoder", "cut", "", "kB", ".ort", "parity", "SQNR", "worst", "nnapi", "coreml", "seconds")
    form = "{:24} {:16} {:5} {:>7} {:>7} {:>8} {:>5} {:>5} {:>6} {:>6} {:>7}  {}"
    lines = [form.format(*head, "in float32")]
    for one in rows:
        ratios = one["sqnr_db"] or {}
        numbers = list(ratios.values())
        lines.append(
            form.format(
                *(one["encoder"], one["cut"], one["precision"]),
                *(f"{one['kb'][name]:.0f}" for name in ("encoder.onnx", "encoder.ort")),
                f"{one['max_abs_error'] / one['max_abs_output']:.1e}",
                f"{numbers[-1]:.1f}" if numbers else "-",
                f"{min(numbers):.1f}" if numbers else "-",
                *(usable(one["runtimes"][name]) for name in ("nnapi", "coreml")),
                f"{one['export_s']:.1f}",
                "all"
                if not ratios
                else ", ".join(f"{n} {op}" for op, n in one["float_nodes"].items()) or "none",
            )
        )
    compared = [one for one in rows if "other_processor" in one]
    if compared:
        lines += ["", "{:24} {:5} {:>12} {:>9} {:>8}".format("encoder", "", "largest", "differ", "noise")]
    for one in compared:
        other = one["other_processor"]
        relative = other["max_abs_error"] / other["max_abs_output"]
        lines.append(
            f"{one['encoder']:24} {one['precision']:5} {relative:12.1e} {other['share_that_differs']:9.1%} "
            f"{other['noise']:8.1e}  {other['architecture']}"
        )
    return "\n".join(lines)


def usable(support: dict[str, Any]) -> str:
    """What the mobile usability checker says."""
    return "yes" if support["supported"] else f"no/{support['partitions']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--python", metavar="PATH", help="a Python of another processor, with onnxruntime")
    arguments = parser.parse_args()
    size, shared = SIZES[arguments.size], shared_folder()
    setting = {
        "encoders": {name: list(of) for name, of in ENCODERS.items()},
        "calibration": size.calibration,
        "compared": size.compared,
        "other_processor": arguments.python is not None,
        "onnxruntime": onnxruntime.__version__,
    }
    measured = MeasuredRows("exported_encoders", arguments.size, setting)
    for name in ENCODERS:
        wanted = [one for one in PRECISIONS if not measured.has({"encoder": name, "precision": one})]
        if not wanted:
            continue
        encoder = made(name, shared)
        split = open_data("cifar10").split("head-train", limit=size.calibration + size.compared)
        images = np.concatenate(list(split.batches(encoder.input_size)))
        for precision in wanted:
            key = {"encoder": name, "precision": precision, "cut": encoder.spec.cut}
            measured.add({**key, **row(encoder, precision, images, size, arguments.python)})
            print(table(measured.rows[-1:]).splitlines()[1], flush=True)
    print(table(measured.rows))


if __name__ == "__main__":
    main()
