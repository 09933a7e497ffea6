"""Where torch computes, and in which precision convolutions train fastest there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ..errors import InputError, unknown

ACCELERATORS = ("auto", "cpu", "cuda", "mps")


def torch_device(accelerator: str = "auto") -> torch.device:
    """The device ``accelerator`` names (``auto``: CUDA, else MPS, else the CPU); ``InputError`` if absent."""
    if accelerator not in ACCELERATORS:
        raise unknown("accelerator", accelerator, ACCELERATORS)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if accelerator == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if present[name]))
    if not present[accelerator]:
        here = ", ".join(name for name, found in present.items() if found)
        raise InputError(f"accelerator {accelerator!r} is not on this machine", hint=f"present: auto, {here}")
    return torch.device(accelerator)


def fast_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 autocast where the hardware multiplies it natively, else a context that changes nothing."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if native else nullcontext()
