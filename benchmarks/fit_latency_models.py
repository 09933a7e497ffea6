"""Fits the latency models of the shipped device profiles to ncnn's published benchmark table.

    python benchmarks/fit_latency_models.py           # prints the errors, writes the profiles
    python benchmarks/fit_latency_models.py --check   # prints the errors and a diff; exit 1 if there is one

``ncnn_latency.csv`` holds the table: the least time in milliseconds of each network at 224x224, float32, on
the CPU, from benchmark/README.md of github.com/Tencent/ncnn; ``08c2dac`` is that commit, ``current`` a later
one of which five networks were taken. Few networks are published per device, so all devices of a core family
share the coefficients (non-negative least squares in relative error), and each row of the table, that is each
device and thread count, has one scale. The stated error is leave-one-network-out: coefficients and scales are
fitted without a network, which is then predicted on every row that has it.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import nn

from privynet.device_profiles import DeviceProfile
from privynet.device_profiles.latency import FEATURES, features_of
from privynet.device_profiles.profiles import profile_text
from privynet.encoders import module_costs

TABLE = Path(__file__).parent / "ncnn_latency.csv"
CATALOGUE = Path(__file__).parents[1] / "device_profiles" / "catalogue"
# ncnn's names, and the same architectures elsewhere. Its googlenet and alexnet are Caffe's, which differ.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "squeezenet": torchvision.models.squeezenet1_1,
    "mobilenet": lambda: timm.create_model("mobilenetv1_100"),
    "mobilenet_v2": torchvision.models.mobilenet_v2,
    "mobilenet_v3": torchvision.models.mobilenet_v3_large,
    "shufflenet_v2": torchvision.models.shufflenet_v2_x1_0,
    "mnasnet": torchvision.models.mnasnet1_0,
    "efficientnet_b0": torchvision.models.efficientnet_b0,
    "regnety_400m": lambda: timm.create_model("regnety_004"),
    "resnet18": torchvision.models.resnet18,
    "vgg16": torchvision.models.vgg16,
    "resnet50": torchvision.models.resnet50,
}
INPUT_SIZE = 224
FAMILIES = {
    "in-order-armv8.0": "in-order Armv8.0 cores (Cortex-A53)",
    "out-of-order-armv8.0": "out-of-order Armv8.0 cores (Cortex-A57, A72, A73)",
    # The in-order Cortex-A55 among them: there too ncnn computes in float16, and its figures are predicted
    # better beside these than beside the Cortex-A53's or alone (median error 19 %, 24 %, 24 %).
    "from-armv8.2": "cores from Armv8.2 on (Cortex-A55, A76, A78AE, X4)",
}
# Few networks are published per device: kinds of work share a coefficient.
COLUMNS = {
    "conv3x3s1": ("conv3x3s1",),
    "dense": ("conv", "pointwise", "grouped"),
    "depthwise": ("depthwise",),
    "linear": ("linear",),
    "activations": ("activations", "depthwise_activations", "image", "elementwise", "pool", "mean", "move"),
}
# From ncnn to ONNX Runtime: value, low, high, source.
RUNTIME_FACTORS = {
    "armv8.0": (
        1.75,
        1.5,
        2.0,
        "few comparisons on Arm: ONNX Runtime's CPU provider takes 1.5 to 2 times as long as ncnn",
    ),
    "armv8.2": (
        2.0,
        1.25,
        2.9,
        "Raspberry Pi 5: 13 detectors, float32, 1.25 to 2.87 times as long as in ncnn, median 2.09 "
        "(visionanalysis.org, ncnn-fp32-vs-onnx-fp32-rpi5), YOLO26n 1.89 times (model card of "
        "Arm-Runtime-for-YOLO26-on-Raspberry-Pi-5)",
    ),
}
# The same chip differs about twofold between the table's contributors: nothing tighter than this is claimed.
LEAST_SPREAD = 0.3
QUANTILES = (0.05, 0.95)


@dataclass(frozen=True)
class Row:
    """One device at one thread count in one version of the table; times in milliseconds by network."""

    family: str
    device: str
    threads: int
    version: str
    times_ms: dict[str, float]


@dataclass(frozen=True)
class Fit:
    """Coefficients per unit of the features, and one scale a row; the median of the scales is 1."""

    coefficients: NDArray[np.float64]
    scales: NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Leave-one-network-out: measured over predicted time, a value for each network and row that has it."""

    networks: list[str]
    ratios: NDArray[np.float64]

    @property
    def relative(self) -> NDArray[np.float64]:
        """abs(predicted - measured) / measured"""
        return np.abs(1 / self.ratios - 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Quantiles of the ratios, and no tighter than the least spread."""
        low, high = np.quantile(self.ratios, QUANTILES)
        return min(float(low), 1 - LEAST_SPREAD), max(float(high), 1 + LEAST_SPREAD)


def read_table(path: Path = TABLE) -> list[Row]:
    """The rows of the published table."""
    with path.open(newline="") as lines:
        return [
            Row(
                family=line["family"],
                device=line["device"],
                threads=int(line["threads"]),
                version=line["table"],
                times_ms={name: float(line[name]) for name in NETWORKS if line[name]},
            )
            for line in csv.DictReader(lines)
        ]


def network_features(names: Iterable[str] = NETWORKS) -> dict[str, NDArray[np.float64]]:
    """The columns of each network, counted on shapes alone."""
    with torch.device("meta"):
        modules = {name: NETWORKS[name]() for name in names}
    costs = {name: module_costs(module, INPUT_SIZE) for name, module in modules.items()}
    features = {name: features_of(cost.kernels) for name, cost in costs.items()}
    return {
        name: np.array([sum(found[one] for one in ones) for ones in COLUMNS.values()])
        for name, found in features.items()
    }


def fit(rows: list[Row], features: dict[str, NDArray[np.float64]], *, without: str | None = None) -> Fit:
    """Least squares in relative error, coefficients and scales in turn until they stand still."""
    cells = [(r, n, ms) for r, row in enumerate(rows) for n, ms in row.times_ms.items() if n != without]
    index = np.array([r for r, _, _ in cells])
    times = np.array([ms for _, _, ms in cells])
    work = np.array([features[n] for _, n, _ in cells])
    unit = work.max(axis=0)  # so that the solver sees columns of one size
    unit[unit == 0] = 1.0
    scales = np.array([np.exp(np.log(times[index == r]).mean()) for r in range(len(rows))])
    for _ in range(200):
        solution, _ = nnls(work / unit * (scales[index] / times)[:, None], np.ones(len(cells)))
        relative = (work / unit) @ solution / times
        fitted = np.array(
            [relative[index == r].sum() / (relative[index == r] ** 2).sum() for r in range(len(rows))]
        )
        moved = float(np.abs(fitted / scales - 1).max())
        scales = fitted
        if moved < 1e-10:
            break
    middle = float(np.median(scales))
    return Fit(coefficients=solution / unit * middle, scales=scales / middle)


def leave_one_network_out(rows: list[Row], features: dict[str, NDArray[np.float64]]) -> Errors:
    """Each network predicted by a fit that has not seen it."""
    networks, ratios = [], []
    for name in NETWORKS:
        fitted = fit(rows, features, without=name)
        for scale, row in zip(fitted.scales, rows, strict=True):
            if name in row.times_ms:
                networks.append(name)
                ratios.append(row.times_ms[name] / (scale * float(features[name] @ fitted.coefficients)))
    return Errors(networks, np.array(ratios))


def latency_section(device: str, family: str, rows: list[Row], fitted: Fit, errors: Errors) -> str:
    """The ``[latency]`` tables of one profile."""
    value, low, high, source = RUNTIME_FACTORS[family.rsplit("-", 1)[1]]
    factor = figure(value, "1", f"from ncnn to ONNX Runtime: {source}", low=low, high=high)
    lines = ["[latency]", f'core_family = "{FAMILIES[family]}"', f"runtime_factor = {factor}"]
    versions: dict[int, tuple[str, float]] = {}
    for row, scale in zip(rows, fitted.scales, strict=True):
        if row.device == device and versions.get(row.threads, ("", 0.0))[0] != "current":
            versions[row.threads] = (row.version, float(scale))
    for threads, (version, scale) in sorted(versions.items()):
        lines += ["", f"[latency.float32.{threads}]"]
        fit_source = f"ncnn's benchmark table ({version}), fitted by benchmarks/fit_latency_models.py"
        for (column, names), value in zip(COLUMNS.items(), fitted.coefficients, strict=True):
            shared = f", one for all {column}" if len(names) > 1 else ""
            for name in names:
                text = figure(float(value) * scale, FEATURES[name], f"{fit_source}{shared}")
                lines.append(f"{name} = {text}")
        lines += [f"{name} = {text}" for name, text in error_figures(errors).items()]
    return "\n".join(lines) + "\n"


def error_figures(errors: Errors) -> dict[str, str]:
    """What a family's tables state of their error."""
    told = f"leave one network out: {len(set(errors.networks))} networks, {len(errors.ratios)} figures"
    low, high = errors.interval
    span = "measured over predicted, 5 % to 95 % quantile, at least 30 % either way"
    return {
        "median_error": figure(float(np.median(errors.relative)), "1", told),
        "p90_error": figure(float(np.quantile(errors.relative, 0.9)), "1", told),
        "max_error": figure(float(errors.relative.max()), "1", told),
        "model_factor": figure(1, "1", f"{told}; {span}", low=low, high=high),
    }


def figure(value: float, unit: str, source: str, **bounds: float) -> str:
    """An estimated figure in TOML."""
    numbers = ", ".join(f"{key} = {number:.4g}" for key, number in {"value": value, **bounds}.items())
    return f'{{ {numbers}, unit = "{unit}", source = "{source}", kind = "estimated" }}'


def profiles() -> tuple[dict[Path, str], dict[str, Errors]]:
    """The text that each shipped profile should have, and the errors of each family."""
    features = network_features()
    table = read_table()
    texts: dict[Path, str] = {}
    errors: dict[str, Errors] = {}
    for family in FAMILIES:
        rows = [row for row in table if row.family == family]
        fitted = fit(rows, features)
        errors[family] = leave_one_network_out(rows, features)
        for device in sorted({row.device for row in rows}):
            path = CATALOGUE / f"{device}.toml"
            if path.exists():
                section = tomllib.loads(latency_section(device, family, rows, fitted, errors[family]))
                shipped = tomllib.loads(path.read_text(encoding="utf-8"))
                texts[path] = profile_text(DeviceProfile.model_validate({**shipped, **section}))
    return texts, errors


def print_errors(errors: dict[str, Errors]) -> None:
    """The leave-one-network-out error of each family, and of each network in it."""
    for family, found in errors.items():
        low, high = found.interval
        print(
            f"{family}: median {np.median(found.relative):.1%}, p90 {np.quantile(found.relative, 0.9):.1%}, "
            f"max {found.relative.max():.1%}, n {len(found.ratios)}, interval {low:.2f} to {high:.2f}"
        )
        for name in NETWORKS:
            own = found.ratios[[network == name for network in found.networks]]
            if len(own):
                low, middle, high = own.min(), np.median(own), own.max()
                print(f"  {name:16} measured/predicted {low:.2f} .. {middle:.2f} .. {high:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit 1 if a profile would change"
    )
    check = parser.parse_args().check
    texts, errors = profiles()
    print_errors(errors)
    changed = False
    for path, text in texts.items():
        current = path.read_text(encoding="utf-8")
        if check:
            lines = current.splitlines(), text.splitlines()
            diff = list(difflib.unified_diff(*lines, path.name, "fitted", lineterm=""))
            print(*diff, sep="\n", end="\n" if diff else "")
            changed |= bool(diff)
        elif current != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.name}")
    return int(changed)


if __name__ == "__main__":
    sys.exit(main())
