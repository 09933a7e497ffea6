"""How fast exported encoders are beside the naive export of the same network, in float32 and in int8.

    PRIVYNET_SHARED=../shared python benchmarks/export_latency.py --size small    # about 40 minutes
    PRIVYNET_SHARED=../shared python benchmarks/export_latency.py --size full

**Naive** is what one does without privynet: ``torch.onnx.export`` with its defaults of the backbone up to
the cut, all of its channels, and behind it the choice of those that are sent (``index_select``). privynet
slices the weights instead. Each file is timed in turn with the naive one in one process (``compare``, one
thread), so that what else the machine does weighs on both. Three cuts of each network (a quarter, a half and
three quarters of all its cuts), D' = D, D/2 and D/4. Weights are random but for the bundled and MobileNetV2:
a time does not depend on them.

The last columns are how far from the hardware's limit a file is: its time over that of the same number of
multiply-accumulates in one large matrix product of ONNX Runtime, in float32 or int8.

Finished rows are kept in ``results/export_latency-SIZE.json`` and not run again.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from measured_rows import MeasuredRows
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from shared_inputs import MOBILENET, shared_folder
from torch import Tensor, nn

from privynet.data import open_data
from privynet.device_profiles import compare
from privynet.encoders import Encoder, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.exporters import write_onnx
from privynet.exporters.int8 import in_int8

BACKBONES = {
    "bundled": 32,
    MOBILENET: 96,
    "torchvision:resnet18,weights=random": 96,
    "torchvision:mobilenet_v3_small,weights=random": 96,
    "torchvision:vgg16,weights=random": 96,
    "timm:efficientnet_lite0,weights=random": 96,
    "timm:mobilenetv4_conv_small,weights=random": 96,
}
"""With the input size."""
PROJECTED = MOBILENET
"""The network that a projection is put behind, too."""
CUTS = (0.25, 0.5, 0.75)
SHARES = (1.0, 0.5, 0.25)
CALIBRATION = 32
_PRODUCT = 512
"""Rows, columns and depth of the large matrix product."""


@dataclass(frozen=True)
class Size:
    """Sessions of each comparison, and their seconds."""

    sessions: int
    min_seconds: float


SIZES = {"small": Size(2, 1.0), "full": Size(5, 5.0)}


class Naive(nn.Module):
    """All channels up to the cut, and the choice of some of them."""

    def __init__(self, whole: Encoder, channels: Sequence[int]) -> None:
        super().__init__()
        self.whole = whole.graph_module
        self.register_buffer("channels", torch.tensor(channels))

    def forward(self, images: Tensor) -> Tensor:
        assert isinstance(self.channels, Tensor)
        return torch.index_select(self.whole(images), 1, self.channels)


def write_naive(whole: Encoder, channels: Sequence[int], path: Path) -> None:
    """With the defaults of ``torch.onnx.export``."""
    images = torch.zeros((1, whole.input_size, whole.input_size, 3), dtype=torch.uint8)
    torch.onnx.export(Naive(whole, channels).eval(), (images,), path, verbose=False)


def product(path: Path, *, integers: bool) -> int:
    """Write one large matrix product; its multiply-accumulates."""
    generator = np.random.default_rng(0)
    shape = (_PRODUCT, _PRODUCT)
    if integers:
        weight = numpy_helper.from_array(generator.integers(-127, 128, shape).astype(np.int8), "w")
        zero = numpy_helper.from_array(np.array(0, np.uint8), "zero")
        node = helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])
        kinds, constants = (TensorProto.UINT8, TensorProto.INT32), [weight, zero]
    else:
        weight = numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), "w")
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        kinds, constants = (TensorProto.FLOAT, TensorProto.FLOAT), [weight]
    values = [
        helper.make_tensor_value_info(name, kind, shape) for name, kind in zip("xy", kinds, strict=True)
    ]
    graph = helper.make_graph([node], "product", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return _PRODUCT**3


def gmacs_per_ms(folder: Path, *, integers: bool) -> float:
    """What a large matrix product reaches, one thread, in processor time."""
    path = folder / f"product-{integers}.onnx"
    macs = product(path, integers=integers)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    dtype = np.uint8 if integers else np.float32
    inputs = {"x": np.ones((_PRODUCT, _PRODUCT), dtype)}
    times = []
    for _ in range(100):
        start = time.process_time()
        session.run(None, inputs)
        times.append(time.process_time() - start)
    return macs / 1e9 / (1e3 * float(np.median(times)))


def encoders(
    splitter: Splitter, share: float, *, projected: bool
) -> list[tuple[Encoder, Encoder, list[int]]]:
    """For each cut: all channels, the encoder, and the channels that the naive one chooses."""
    found = []
    for place in CUTS:
        cut = splitter.cuts[int(len(splitter.cuts) * place)]
        count = max(1, round(cut.channels * share))
        # Spread over all, as a selection is.
        channels = [int(one) for one in np.linspace(0, cut.channels - 1, count)]
        whole = make_encoder(splitter, cut=cut.name)
        if projected:
            matrix = np.random.default_rng(0).standard_normal((count, cut.channels)).astype(np.float32)
            made = make_encoder(splitter, cut=cut.name, projection=matrix)
            found.append((made, made, list(range(count))))
        else:
            found.append((whole, make_encoder(splitter, cut=cut.name, channels=channels), channels))
    return found


def measure(size: Size, measured: MeasuredRows) -> None:
    """All rows."""
    networks = [*itertools.product(BACKBONES, (False,)), (PROJECTED, True)]
    for (name, projected), share in itertools.product(networks, SHARES):
        group = {"backbone": name, "projected": projected, "share": share}
        if sum(group.items() <= row.items() for row in measured.rows) == len(CUTS):
            continue
        backbone = load_backbone(parse_backbone(name.format(shared=shared_folder())))
        splitter = Splitter(backbone, BACKBONES[name])
        split = open_data("cifar10").split("head-train", limit=CALIBRATION)
        images = next(iter(split.batches(splitter.input_size)))
        for whole, encoder, channels in encoders(splitter, share, projected=projected):
            key = {**group, "cut": encoder.spec.cut}
            if not measured.has(key):
                row = compared(whole, encoder, channels, images, size)
                measured.add({**key, **row})
                print(key, {figure: round(value, 3) for figure, value in row.items()}, flush=True)


def compared(
    whole: Encoder, encoder: Encoder, channels: Sequence[int], images: NDArray[np.uint8], size: Size
) -> dict[str, Any]:
    """Times in ms, and how many times faster than the naive export."""
    row: dict[str, Any] = {"gmacs": encoder.costs.macs / 1e9}
    with tempfile.TemporaryDirectory() as folder:
        naive = Path(folder) / "naive.onnx"
        write_naive(whole, channels, naive)
        for precision, one in (("fp32", encoder), ("int8", in_int8(encoder, images)[0])):
            file = Path(folder) / f"{precision}.onnx"
            start = time.perf_counter()
            written = write_onnx(one, file)
            row[f"{precision}_export_s"] = time.perf_counter() - start
            row[f"{precision}_kb"] = written["bytes"] / 1024
            found = compare(naive, file, sessions=size.sessions, min_seconds=size.min_seconds)
            row[f"{precision}_faster"] = found["ratio"]["value"]
            row[f"{precision}_faster_low"], row[f"{precision}_faster_high"] = found["ratio"]["ci95"]
            row[f"{precision}_ms"] = found["other"]["latency_ms"]["median"]
            row["naive_ms"] = found["latency_ms"]["median"]
            limit = gmacs_per_ms(Path(folder), integers=precision == "int8")
            row[f"{precision}_of_limit"] = row[f"{precision}_ms"] / (row["gmacs"] / limit)
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Geometric means over cuts."""
    head = ("network", "D'/D", "naive ms", "fp32", "int8", "fp32 / limit", "int8 / limit", "n")
    lines = ["{:52} {:>5} {:>9} {:>6} {:>6} {:>13} {:>13}  {}".format(*head)]
    groups = {(row["backbone"], row["projected"], row["share"]) for row in rows}
    for name, projected, share in [*sorted(groups), *((None, None, share) for share in SHARES)]:
        own = [
            row
            for row in rows
            if row["share"] == share
            and (name is None or (row["backbone"], row["projected"]) == (name, projected))
        ]
        if own:
            means = [
                float(np.exp(np.mean([np.log(row[key]) for row in own])))
                for key in ("naive_ms", "fp32_faster", "int8_faster", "fp32_of_limit", "int8_of_limit")
            ]
            shown = (
                "all" if name is None else name.split(",")[0] + (" with a projection" if projected else "")
            )
            lines.append(
                f"{shown:52} {share:5} {means[0]:9.3f} {means[1]:6.2f} {means[2]:6.2f} {means[3]:13.1f} "
                f"{means[4]:13.1f}  {len(own)}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    size = SIZES[parser.parse_args().size]
    setting = {
        **asdict(size),
        "backbones": BACKBONES,
        "cuts": list(CUTS),
        "shares": list(SHARES),
        "calibration": CALIBRATION,
        "onnxruntime": onnxruntime.__version__,
    }
    measured = MeasuredRows("export_latency", parser.parse_args().size, setting)
    measure(size, measured)
    print(table(measured.rows))


if __name__ == "__main__":
    main()
