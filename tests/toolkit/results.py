"""A search's result with every kind of trial, as ``search`` writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def score(value: float, spread: float = 0.01, n: int = 300) -> dict[str, Any]:
    return {"value": value, "ci95": [value - spread, value + spread], "n": n}


def recovery(psnr_db: float, ssim: float, r2: float) -> dict[str, Any]:
    return {
        "psnr_db": {**score(psnr_db, 0.2), "attack": "decoder"},
        "ssim": {**score(ssim), "attack": "decoder"},
        "r2": {**score(r2), "attack": "decoder"},
    }


def trial(number: int, *, utility: float | None, r2: float | None, violated: list[str]) -> dict[str, Any]:
    metrics: dict[str, float] = {
        "macs": 1.2e7,
        "latency_ms": 9.0,
        "payload_bytes": 4096.0,
        "storage_kb": 300.0,
    }
    entry = {
        "number": number,
        "state": "pruned" if utility is None else "evaluated",
        "backbone": 0,
        "input_size": 32,
        "cut": f"blocks.{number % 8}.2",
        "shape": [16, 8, 8],
        "channels": 16,
        "policy": "fisher" if number % 2 else "random",
        "metrics": metrics,
        "feasible": not violated,
        "violated": violated,
        "utility": None,
    }
    if utility is not None and r2 is not None:
        metrics |= {"r2": r2, "psnr_db": 8 + 20 * r2, "ssim": r2}
        entry["utility"] = score(utility)
    return entry


def result(*, feasible: bool = True) -> dict[str, Any]:
    """Three evaluated trials, one of them over its limit, and one that was ended early."""
    trials = [
        trial(0, utility=0.97, r2=0.88, violated=["r2"]),
        trial(1, utility=0.96, r2=0.71, violated=[]),
        trial(2, utility=0.90, r2=0.55, violated=[]),
        trial(3, utility=None, r2=None, violated=["latency_ms"]),
    ]
    if not feasible:
        trials = [trials[0], trials[3]]
    found: dict[str, Any] = {
        "encoder": {
            "backbone": "bundled:plain8",
            "cut": "blocks.1.2",
            "channels": [7919, 6101, 7001],
            "input_size": 32,
        },
        "trial": 1,
        "metrics": {"payload_bytes": 4096.0},
        "predicted_ms": {"ms": 6.0, "low": 3.4, "high": 9.3, "estimated": True},
        "utility": {**score(0.96), "metric": "accuracy"},
        "privacy_loss": recovery(17.0, 0.6, 0.71),
        "limits": {
            "latency_ms": {"limit": 50.0, "value": 9.3, "source": "profile"},
            "storage_kb": {"limit": 8192.0, "value": 300.0, "source": "profile"},
            "payload_bytes": {"limit": 49152.0, "value": 4096.0, "source": "profile"},
            "r2": {"limit": 0.75, "value": 0.71, "source": "user"},
        },
        "blind": recovery(9.0, 0.1, 0.0),
        "label_only": recovery(12.0, 0.4, 0.41),
        "nearest": None,
        "binding": ["r2"],
    }
    if not feasible:
        limits: dict[str, Any] = found["limits"]
        found = {
            **dict.fromkeys(("encoder", "utility", "privacy_loss")),
            "limits": {name: {**entry, "value": None} for name, entry in limits.items()},
            "nearest": trials,
            "binding": ["r2"],
        }
    return {
        **found,
        "trials": {
            "total": len(trials),
            "pruned": 1,
            "evaluated": len(trials) - 1,
            "feasible": 2 if feasible else 0,
            "certified": 0,
        },
        "trial_table": trials,
        "runners_up": [],
        "device": {"name": "raspberry-pi-zero-2w", "title": "Raspberry Pi Zero 2 W"},
        "data": {"name": "digits", "digest": "a" * 64, "classes": 10, "reference_size": 32},
        "backbones": ["bundled:plain8"],
        "seed": 0,
        "tool_version": "0.1.0",
        "inputs": {"data": "a" * 64},
        "wall_s": 12.5,
    }


def bench() -> dict[str, Any]:
    return {
        "latency_ms": {"min": 1.1, "median": 1.2, "p90": 1.4, "iqr": 0.1, "n": 900},
        "load_ms": 20.0,
        "peak_rss_kb": 60000,
        "machine": {"processor": "Test CPU <3 GHz>", "threads": 2},
        "flags": [{"code": "background-load", "disqualifying": True, "message": "others were busy"}],
        "valid": False,
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
