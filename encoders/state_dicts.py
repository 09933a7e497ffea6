"""State dicts: their digest, reading them from files without running code, filling modules with them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError


def state_digest(module: nn.Module) -> str:
    """SHA-256 (hex) over the names, types, shapes and bytes of a module's tensors; no batch counters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state dict saved by torch; never runs code from it.

    Raises:
        InputError: the file is missing or holds something else.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"weights file {str(path)!r} does not exist")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"weights file {str(path)!r} is not a safetensors file: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"weights file {str(path)!r} is not a plain state dict", hint="save it as safetensors"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"weights file {str(path)!r} holds no state dict", hint="save model.state_dict()")
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Copy a state dict's tensors into a module; ``source`` says in errors what was read.

    Raises:
        InputError: a tensor is missing, foreign, or of another shape.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    foreign = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and own[name].shape != state[name].shape
    ]
    if missing or foreign or shapes:
        faults = (
            [f"{name} is missing" for name in missing]
            + shapes
            + [f"{name} is not part of the network" for name in foreign]
        )
        raise InputError(
            f"weights do not fit: {faults[0]}" + (f" and {len(faults) - 1} more" if len(faults) > 1 else ""),
            hint=f"{source} must come from the same network",
        )
    module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()}, strict=False)
