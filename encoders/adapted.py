"""Weights that were trained further after slicing: put into a graph, written, read and checked."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from ..artifacts import replace_file
from ..errors import InputError

if TYPE_CHECKING:
    from .encoder import Encoder

HINT = "give the file that was written with the encoder with --adapted-weights FILE"


def parameters_digest(module: nn.Module) -> str:
    """SHA-256 (hex) over the names, types, shapes and bytes of a module's parameters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.named_parameters()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def adapted_graph(
    graph_module: fx.GraphModule, state: Mapping[str, Tensor], *, source: str
) -> fx.GraphModule:
    """A copy of a graph with other parameters; ``source`` is what the errors call them.

    Raises:
        InputError: a parameter is missing, foreign, of another shape, or not finite.
    """
    changed = copy.deepcopy(graph_module)
    own = dict(changed.named_parameters())
    faults = [f"{name} is missing" for name in own if name not in state]
    faults += [f"{name} is not part of the encoder" for name in state if name not in own]
    for name, parameter in own.items():
        if name in state and state[name].shape != parameter.shape:
            faults.append(f"{name} is {tuple(state[name].shape)}, not {tuple(parameter.shape)}")
        elif name in state and not bool(torch.isfinite(state[name]).all()):
            faults.append(f"{name} is not finite")
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise InputError(f"{source} do not fit: {faults[0]}{more}", hint=HINT)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(state[name])
    return changed


def write_adapted(encoder: Encoder, path: Path) -> str:
    """Write an encoder's weights as safetensors; returns their digest, as in the spec's ``adapted``.

    Put the file's name into the spec's ``adapted_weights``.
    """
    from safetensors.torch import save_file

    graph_module = encoder.graph_module
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in graph_module.named_parameters()}
    with replace_file(path) as temporary:
        save_file(state, temporary)
    return parameters_digest(graph_module)


def read_adapted(graph_module: fx.GraphModule, file: str | None, *, digest: str) -> fx.GraphModule:
    """A copy of a graph with the parameters of a safetensors file.

    Raises:
        InputError: there is no such file, it is no safetensors file, or it does not hold these parameters.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if file is None or not Path(file).is_file():
        where = "" if file is None else f": {file} does not exist"
        raise InputError(
            f"the encoder's adapted weights are not there{where}",
            hint="give encoder.safetensors, which defend wrote beside the spec, with --adapted-weights",
        )
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file} is not a safetensors file: {reason}", hint=HINT) from error
    changed = adapted_graph(graph_module, state, source=f"the adapted weights in {file}")
    found = parameters_digest(changed)
    if found != digest:
        raise InputError(
            f"the adapted weights in {file} have digest {found[:12]}…, the spec says {digest[:12]}…",
            hint=HINT,
        )
    return changed
