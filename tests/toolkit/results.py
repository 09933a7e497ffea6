"""A search's result with every kind of trial, as ``search`` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKBONES = ("bundled:plain8", "timm:mobilenetv2_100")
CUTS: dict[int, list[tuple[str, int]]] = {
    0: [(f"blocks.{block}.{layer}", 16 << block) for block in range(3) for layer in range(3)],
    1: [
        ("bn1", 32),
        *((f"blocks.{block}.{layer}", (16, 24, 32, 64, 96)[block]) for block in range(5) for layer in (0, 1)),
    ],
}
SIZES = {0: 32, 1: 64}
R2_LIMIT, LATENCY_LIMIT = 0.6, 50.0
CHOSEN = 4
CERTIFIED = (4, 9, 12, 6, 15)

_TRIALS: Sequence[tuple[int, int, int, str, float, float, int, str]] = (
    # backbone, cut, channels, policy, strength, noise, bits, stage
    (0, 2, 16, "fisher", 0.0, 0.0, 32, "trained"),
    (0, 4, 8, "random", 0.0, 0.0, 32, "trained"),
    (0, 5, 16, "joint", 1.0, 0.0, 32, "trained"),
    (1, 10, 96, "fisher", 0.0, 0.0, 32, "costs"),
    (0, 8, 24, "leak-prune", 0.45, 0.0, 32, "trained"),
    (1, 2, 8, "projection", 3.2, 0.0, 32, "trained"),
    (1, 4, 12, "adversarial", 1.4, 0.0, 32, "trained"),
    (1, 9, 64, "random", 0.0, 0.0, 32, "costs"),
    (1, 6, 16, "fisher", 0.0, 0.0, 32, "closed-form"),
    (0, 8, 16, "joint", 5.3, 0.0, 8, "trained"),
    (1, 3, 4, "leak-prune", 0.68, 0.1, 32, "closed-form"),
    (0, 1, 4, "random", 0.0, 0.0, 32, "closed-form"),
    (0, 7, 32, "leak-prune", 0.22, 0.1, 8, "amortised"),
    (1, 5, 16, "projection", 18.0, 0.0, 8, "trained"),
    (0, 5, 12, "fisher", 0.0, 0.0, 32, "amortised"),
    (1, 6, 24, "adversarial", 6.0, 0.1, 32, "closed-form"),
    (0, 5, 16, "joint", 1.0, 0.0, 32, "trained"),  # again
    (0, 0, 8, "projection", 0.56, 0.0, 32, "closed-form"),
    (0, 6, 8, "adversarial", 0.38, 0.0, 4, "closed-form"),
    (1, 10, 64, "joint", 30.0, 0.0, 32, "costs"),
)
_ERRORS = {"trained": (0.0, 0.0), "amortised": (0.014, 0.025), "closed-form": (0.03, 0.06)}
_SECONDS = {
    "closed-form": {"closed-form": 0.021},
    "amortised": {"closed-form": 0.019, "amortised": 0.24},
    "trained": {"closed-form": 0.02, "features": 0.8, "attack": 8.1, "head": 4.3},
}


def score(value: float, spread: float = 0.01, n: int = 300) -> dict[str, Any]:
    return {"value": value, "ci95": [value - spread, value + spread], "n": n}


def recovery(psnr_db: float, ssim: float, r2: float) -> dict[str, Any]:
    return {
        "psnr_db": {**score(psnr_db, 0.2), "attack": "decoder"},
        "ssim": {**score(ssim), "attack": "decoder"},
        "r2": {**score(r2), "attack": "decoder"},
    }


def accuracy_of(backbone: int, cut: int, channels: int) -> float:
    """More accurate with depth and with channels."""
    depth = cut / (len(CUTS[backbone]) - 1)
    return round(float(0.62 + 0.3 * depth**0.3 * (1 - np.exp(-channels / 14)) + 0.04 * backbone), 4)


def r2_of(backbone: int, cut: int, channels: int) -> float:
    """Leaks less with depth, and more with channels."""
    depth = cut / (len(CUTS[backbone]) - 1)
    return round(float(0.85 - 0.45 * depth + 0.09 * np.log2(channels / 8) - 0.03 * backbone), 4)


def trial(number: int) -> dict[str, Any]:
    """One row of the trial table."""
    backbone, cut, channels, policy, strength, noise, bits, stage = _TRIALS[number]
    name, _ = CUTS[backbone][cut]
    metrics: dict[str, float] = {
        "macs": 1.2e7,
        "latency_ms": 9.0 + 40 * (stage == "costs") + 3.0 * cut,
        "payload_bytes": 64.0 * channels * bits / 8,
        "storage_kb": 300.0,
    }
    entry: dict[str, Any] = {
        "number": number,
        "state": "pruned" if stage == "costs" else "evaluated",
        "stage": stage,
        "backbone": backbone,
        "input_size": SIZES[backbone],
        "cut": name,
        "channels": channels,
        "policy": policy,
        "strength": strength,
        "noise": noise,
        "bits": bits,
        "shape": [channels, 8, 8],
        "metrics": metrics,
        "estimates": {},
        "utility": None,
        "seconds": {},
        "repeats": 2 if number == 16 else None,
    }
    if stage != "costs":
        mixes = policy in ("projection", "adversarial")
        accuracy = accuracy_of(backbone, cut, channels) + 0.02 * mixes - 0.15 * noise
        r2 = r2_of(backbone, cut, channels) - 0.12 * mixes - 0.4 * noise - 0.02 * (policy == "joint")
        of_accuracy, of_r2 = _ERRORS[stage]
        estimates = {
            "accuracy": {"value": accuracy, "error": of_accuracy},
            "psnr_db": {"value": 8 + 20 * r2, "error": 20 * of_r2},
            "ssim": {"value": 0.9 * r2, "error": of_r2},
            "r2": {"value": r2, "error": of_r2},
        }
        entry["estimates"] = estimates
        metrics |= {
            name: one["value"] + one["error"] for name, one in estimates.items() if name != "accuracy"
        }
        entry["utility"] = score(accuracy) if stage == "trained" else None
        entry["seconds"] = _SECONDS[stage]
    over = {"r2": metrics.get("r2", 0.0) > R2_LIMIT, "latency_ms": metrics["latency_ms"] > LATENCY_LIMIT}
    entry["violated"] = [metric for metric, beyond in over.items() if beyond]
    entry["feasible"] = stage != "costs" and not entry["violated"]
    return entry


def certification(number: int) -> dict[str, Any]:
    """What was found of a candidate: a little less accurate than predicted, and leaking more."""
    row = trial(number)
    parameters = ("backbone", "input_size", "cut", "channels", "policy", "strength", "noise", "bits")
    accuracy = row["estimates"]["accuracy"]["value"] - 0.006 * (number % 4) + 0.004
    r2 = row["estimates"]["r2"]["value"] + 0.012 * (1 + number % 4)
    metrics = {**row["metrics"], "r2": r2 + 0.01}
    violated = ["r2"] if metrics["r2"] > R2_LIMIT else []
    return {
        "trial": number,
        **{name: row[name] for name in parameters},
        "stage": row["stage"],
        "predicted": row["estimates"],
        "utility": {**score(accuracy), "heads": [accuracy - 0.003, accuracy, accuracy + 0.003]},
        "privacy_loss": recovery(8 + 20 * r2, 0.9 * r2, r2),
        "metrics": metrics,
        "violated": violated,
        "feasible": not violated,
    }


def overview() -> list[dict[str, Any]]:
    entries = []
    for backbone, cuts in CUTS.items():
        counts = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
        counts += [96] if backbone else []
        maps: dict[str, list[list[float | None]]] = {"accuracy": [], "r2": []}
        for place, (_, channels) in enumerate(cuts):
            inside = [count <= channels for count in counts]
            maps["accuracy"].append(
                [
                    accuracy_of(backbone, place, n) if fits else None
                    for n, fits in zip(counts, inside, strict=True)
                ]
            )
            maps["r2"].append(
                [r2_of(backbone, place, n) if fits else None for n, fits in zip(counts, inside, strict=True)]
            )
        names = [name for name, _ in cuts]
        entries.append(
            {
                "backbone": backbone,
                "input_size": SIZES[backbone],
                "cuts": names,
                "counts": counts,
                **maps,
                "calibrated": backbone == 0,
            }
        )
    return entries


def result(*, feasible: bool = True) -> dict[str, Any]:
    """Twenty trials: three ended at their costs, one again; five certified, one of them over its limit."""
    trials = [trial(number) for number in range(len(_TRIALS))]
    certified = [certification(number) for number in CERTIFIED]
    limits: dict[str, Any] = {
        "latency_ms": {"limit": LATENCY_LIMIT, "value": 9.3, "source": "profile"},
        "storage_kb": {"limit": 8192.0, "value": 300.0, "source": "profile"},
        "payload_bytes": {"limit": 49152.0, "value": 6144.0, "source": "profile"},
        "r2": {"limit": R2_LIMIT, "value": certified[0]["metrics"]["r2"], "source": "user"},
    }
    if not feasible:
        trials = [{**row, "violated": row["violated"] or ["r2"], "feasible": False} for row in trials]
        trials = [row for row in trials if row["number"] in (0, 1, 3, 5, 17)]
        limits["r2"]["limit"] = 0.2
        certified = []
    stages = [row["stage"] for row in trials if row["repeats"] is None]
    rejected = sum(not one["feasible"] for one in certified)
    chosen = certified[0] if feasible else None
    found: dict[str, Any]
    if chosen is not None:
        found = {
            "encoder": {
                "backbone": BACKBONES[0],
                "cut": chosen["cut"],
                "channels": [7919, 6101, 7001],
                "input_size": SIZES[0],
                "projection": None,
            },
            "trial": CHOSEN,
            "metrics": {"payload_bytes": 6144.0},
            "predicted_ms": {"ms": 6.0, "low": 3.4, "high": 9.3, "estimated": True},
            "utility": {**chosen["utility"], "metric": "top-1 accuracy"},
            "privacy_loss": chosen["privacy_loss"],
            "limits": limits,
            "blind": recovery(9.0, 0.1, 0.0),
            "attacks": [{"attack": "ridge"}, {"attack": "decoder"}],
            "label_only": recovery(12.0, 0.4, 0.31),
            "runners_up": [
                {**trials[9], "stage": "certified", "utility": certified[1]["utility"]},
                next(row for row in trials if row["feasible"] and row["number"] not in CERTIFIED),
            ],
            "nearest": None,
            "binding": ["r2"],
            "relaxed": {"r2": {"limit": 0.72, "accuracy": 0.93, "gain": 0.0123, "trial": 2}},
        }
    else:
        found = {
            **dict.fromkeys(("encoder", "utility", "privacy_loss")),
            "limits": {name: {**entry, "value": None} for name, entry in limits.items()},
            "runners_up": [],
            "nearest": [row for row in trials if "r2" in row["metrics"]],
            "binding": ["r2"],
            "relaxed": {},
        }
    return {
        **found,
        "trials": {
            "total": len(trials),
            "pruned": stages.count("costs"),
            "evaluated": len(trials) - stages.count("costs"),
            "distinct": len(stages),
            "feasible": sum(row["feasible"] for row in trials),
            "certified": len(certified) - rejected,
            "rejected": rejected,
            "by_stage": {
                stage: stages.count(stage) for stage in ("costs", "closed-form", "amortised", "trained")
            },
        },
        "trial_table": trials,
        "certifications": certified,
        "overview": overview(),
        "device": {"name": "raspberry-pi-zero-2w", "title": "Raspberry Pi Zero 2 W"},
        "data": {"name": "digits", "digest": "a" * 64, "classes": 10, "reference_size": 32},
        "backbones": list(BACKBONES),
        "seed": 0,
        "tool_version": "0.1.0",
        "inputs": {"data": "a" * 64},
        "wall_s": {"whole": 212.5, "characterisation": 61.0, "trials": 93.2, "certification": 55.1},
    }


def bench() -> dict[str, Any]:
    return {
        "on": "local",
        "latency_ms": {"min": 1.1, "median": 1.2, "p90": 1.4, "iqr": 0.1, "n": 900},
        "load_ms": 20.0,
        "first_ms": 2.0,
        "peak_rss_kb": 60000,
        "machine": {"processor": "Test CPU <3 GHz>", "threads": 2},
        "flags": [{"code": "background-load", "disqualifying": True, "message": "others were busy"}],
        "valid": False,
        "predicted_ms": {
            **{"value": 6.0, "low": 3.4, "high": 9.3, "estimated": True},
            **{"device": "raspberry-pi-zero-2w", "threads": 4},
        },
        "limit_ms": 50.0,
        "limit_threads": 4,
    }


def images(n: int = 20) -> dict[str, NDArray[Any]]:
    """Originals and noisier and noisier reconstructions of them."""
    generator = np.random.default_rng(0)
    originals = generator.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    noise = generator.normal(size=originals.shape) * np.arange(n)[:, None, None, None] * 4
    rebuilt = np.clip(originals + noise, 0, 255).astype(np.uint8)
    return {
        "originals": originals,
        "reconstructions": rebuilt,
        "psnr_db": np.linspace(40, 10, n),
    }
