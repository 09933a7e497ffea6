"""A trained network as bytes: one safetensors file with a JSON document in its header."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...errors import InputError

_HINT = "train it again"
_VERSION = 1


def state_without(module: nn.Module, *prefixes: str) -> dict[str, Tensor]:
    """The module's weights and buffers but for those whose names start so."""
    return {name: value for name, value in module.state_dict().items() if not name.startswith(prefixes)}


@contextmanager
def fitting(kind: str) -> Iterator[None]:
    """Stored weights that do not fit their own document end in an ``InputError``."""
    try:
        yield
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"stored {kind} does not fit: {reason}", hint=_HINT) from error


def write_bytes(kind: str, document: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Tensors and what there is to say about them."""
    text = json.dumps({"kind": kind, "version": _VERSION, **document}, sort_keys=True)
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in tensors.items()}, {"document": text}
    )


def read_bytes(kind: str, data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What ``write_bytes`` gave: document, tensors. Raises ``InputError`` for anything else."""
    try:
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        document: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["document"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"no stored {kind}: {type(error).__name__}", hint=_HINT) from error
    if document.get("kind") != kind or document.get("version") != _VERSION:
        raise InputError(f"stored {document.get('kind')}, not {kind} {_VERSION}", hint=_HINT)
    return document, tensors
