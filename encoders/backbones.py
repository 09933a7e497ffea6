"""Backbones: one string names a pre-trained network, its weights and its preprocessing.

``KIND:NAME[,key=value]...`` with kind ``bundled``, ``timm``, ``torchvision``, or ``package.module:factory``
for a callable of the user's. The keys ``weights``, ``mean`` and ``std`` are ours, the others go to the
network's constructor. ``weights`` is a file (safetensors, or a state dict that ``torch.load`` reads with
``weights_only=True``), or ``random`` (seed 0: to try things out); without it the library's own pre-trained
weights are used. ``mean`` and ``std`` are one number, or three with ``/`` between them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, unknown
from . import bundled
from .state_dicts import fill, read_weights, state_digest

Triple = tuple[float, float, float]

KINDS = ("bundled", "timm", "torchvision")
RANDOM = "random"
_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
_IMAGENET_SIZE = 224


@dataclass(frozen=True)
class BackboneName:
    """A parsed backbone string."""

    kind: str
    name: str
    weights: str | None = None
    mean: Triple | None = None
    std: Triple | None = None
    arguments: tuple[tuple[str, Any], ...] = ()

    @property
    def is_factory(self) -> bool:
        """Whether it names code of the user's, which only the user may ask to import."""
        return self.kind not in KINDS

    @property
    def architecture(self) -> str:
        """The string without weights and preprocessing: what the spec keeps, free of paths."""
        extra = "".join(f",{key}={value}" for key, value in self.arguments)
        return f"{self.kind}:{self.name}{extra}"

    def __str__(self) -> str:
        parts = [self.architecture]
        if self.weights is not None:
            parts.append(f"weights={self.weights}")
        for key, triple in (("mean", self.mean), ("std", self.std)):
            if triple is not None:
                parts.append(f"{key}=" + "/".join(f"{value:g}" for value in triple))
        return ",".join(parts)


@dataclass(frozen=True)
class Backbone:
    """A network with its preprocessing: the image's channels, as value / 255, less ``mean``, over ``std``."""

    name: BackboneName
    module: nn.Module = field(repr=False)
    mean: Triple
    std: Triple
    native_size: int
    """The input size in pixels that the weights were trained at."""
    weights_digest: str | None
    """SHA-256 over all tensors; None while the weights are not loaded (shapes only)."""


class MissingWeights(InputError):
    """Weights that are neither given nor to be had here."""


_FILE_ARGUMENTS = {"cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}
"""Of timm's constructors. Specs come from anybody: none may choose what is read or written here."""


def parse_backbone(
    text: str,
    *,
    weights: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    arguments: Iterable[str] = (),
) -> BackboneName:
    """Parse a backbone string; the options are the command line's short forms of its keys.

    Raises:
        InputError: no known kind, a key without a value, or a mean or std that is no number.
    """
    head, *pairs = text.split(",")
    pairs = [*pairs, *arguments]
    pairs += [
        f"{key}={value}" for key, value in (("weights", weights), ("mean", mean), ("std", std)) if value
    ]
    kind, colon, name = head.partition(":")
    if kind == "bundled" and not name:
        name = bundled.NAMES[0]
    if not colon and kind != "bundled":
        raise InputError(
            f"backbone {text!r} has no kind",
            hint="write timm:NAME, torchvision:NAME, bundled or module:factory",
        )
    if kind not in KINDS and not _is_module(kind):
        raise unknown("kind of backbone", kind, [*KINDS, "package.module:factory"])
    if not name:
        raise InputError(f"backbone {text!r} has no name behind the colon")
    parsed = BackboneName(kind, name)
    extra: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier() or not value:
            raise InputError(f"backbone argument {pair!r} is not key=value", hint=f"in {text!r}")
        if key in _FILE_ARGUMENTS:
            raise InputError(
                f"backbone argument {key} is about files, not the network",
                hint="weights=FILE names its weights",
            )
        if key == "weights":
            parsed = replace(parsed, weights=value)
        elif key == "mean":
            parsed = replace(parsed, mean=_triple(key, value))
        elif key == "std":
            parsed = replace(parsed, std=_triple(key, value))
        else:
            extra[key] = _scalar(value)
    return replace(parsed, arguments=tuple(sorted(extra.items())))


def _is_module(kind: str) -> bool:
    """Whether a kind may be the name of a module; whether one in a package exists, importing it shows."""
    if not all(part.isidentifier() for part in kind.split(".")):
        return False
    if kind == "__main__":
        raise InputError(
            "a backbone in __main__ cannot be found again", hint="put the factory into a module of its own"
        )
    return "." in kind or importlib.util.find_spec(kind) is not None


def load_backbone(name: BackboneName, *, shapes_only: bool = False) -> Backbone:
    """Build a backbone, in evaluation mode, with its weights; or, quickly, its shapes only (meta device).

    Its name holds the absolute path of a weights file, so that it is found from any folder.

    Raises:
        InputError: the network is unknown, its arguments or weights do not fit, or its pre-trained weights
            cannot be had here.
    """
    constructor, mean, std, native_size = _constructor(name)
    file_given = name.weights is not None and name.weights != RANDOM
    if file_given:
        name = replace(name, weights=str(Path(str(name.weights)).expanduser().absolute()))
    if file_given and name.kind != "bundled" and not (name.mean and name.std):
        raise InputError(
            f"weights={name.weights} were given without their preprocessing",
            hint="add mean=… and std=… (a wrong pair goes unnoticed and costs accuracy)",
        )
    mean, std = name.mean or mean, name.std or std
    if mean is None or std is None:
        raise InputError(f"{name.architecture} does not say its preprocessing", hint="add mean=… and std=…")
    module = _construct(name, constructor, device="meta" if shapes_only else "cpu")
    digest = None
    if not shapes_only:
        if name.weights != RANDOM:
            fill(
                module,
                _weights(name),
                source=name.weights or f"the pre-trained weights of {name.architecture}",
            )
        digest = state_digest(module)
    return Backbone(name, module.eval().requires_grad_(False), mean, std, native_size, digest)


def _triple(key: str, text: str) -> Triple:
    try:
        values = [float(part) for part in text.split("/")]
    except ValueError:
        values = []
    if (
        len(values) not in (1, 3)
        or not all(abs(value) < 1e6 for value in values)
        or (key == "std" and min(values) <= 0)
    ):
        raise InputError(
            f"{key}={text} is not usable",
            hint=f"write {key}=0.5 or {key}=0.485/0.456/0.406" + ", above zero" * (key == "std"),
        )
    return (values[0], values[0], values[0]) if len(values) == 1 else (values[0], values[1], values[2])


def _scalar(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text, text)
    return value if isinstance(value, int | float | bool) else text


_Constructor = Callable[[], nn.Module]


def _constructor(name: BackboneName) -> tuple[_Constructor, Triple | None, Triple | None, int]:
    """What builds the network without weights, and its default preprocessing and input size."""
    arguments = dict(name.arguments)
    if name.kind == "bundled":
        if name.name not in bundled.NAMES:
            raise unknown("bundled backbone", name.name, bundled.NAMES)
        return lambda: bundled.Plain8(**arguments), bundled.MEAN, bundled.STD, bundled.INPUT_SIZE
    if name.kind == "timm":
        import timm

        if not timm.is_model(name.name.split(".")[0]):
            raise unknown("timm model", name.name, timm.list_models())
        config = timm.get_pretrained_cfg(name.name)
        return (
            lambda: _module(timm.create_model(name.name, pretrained=False, **arguments)),
            _as_triple(config.mean) if config else _IMAGENET_MEAN,
            _as_triple(config.std) if config else _IMAGENET_STD,
            config.input_size[1] if config else _IMAGENET_SIZE,
        )
    if name.kind == "torchvision":
        from torchvision import models

        names = models.list_models(module=models)
        if name.name not in names:
            raise unknown("torchvision model", name.name, names)
        return (
            lambda: _module(models.get_model(name.name, weights=None, **arguments)),
            _IMAGENET_MEAN,
            _IMAGENET_STD,
            _IMAGENET_SIZE,
        )
    try:
        factory = getattr(importlib.import_module(name.kind), name.name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"backbone {name.architecture!r} cannot be imported: {error}") from error
    return lambda: _module(factory(**arguments)), None, None, _IMAGENET_SIZE


def _as_triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _module(built: Any) -> nn.Module:
    if not isinstance(built, nn.Module):
        raise TypeError(f"gives a {type(built).__name__}, not a torch.nn.Module")
    return built


def _construct(name: BackboneName, constructor: _Constructor, *, device: str) -> nn.Module:
    try:
        with torch.random.fork_rng(), torch.device(device):
            torch.manual_seed(0)
            return constructor()
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"backbone {name.architecture!r} cannot be built: {first}") from error


def _weights(name: BackboneName) -> Mapping[str, Tensor]:
    if name.weights is not None:
        return read_weights(Path(name.weights))
    if name.kind == "bundled":
        return read_weights(bundled.weights_path(name.name))
    hint = "give weights=FILE with its mean= and std=, or weights=random to try things out"
    try:
        if name.kind == "timm":
            import timm

            pretrained: Mapping[str, Tensor] = timm.create_model(
                name.name, pretrained=True, **dict(name.arguments)
            ).state_dict()
            return pretrained
        if name.kind == "torchvision":
            from torchvision import models

            downloaded: Mapping[str, Tensor] = models.get_model_weights(name.name).DEFAULT.get_state_dict(
                check_hash=True
            )
            return downloaded
    except (OSError, RuntimeError, ValueError) as error:
        raise MissingWeights(
            f"the pre-trained weights of {name.architecture} cannot be fetched", hint=hint
        ) from error
    raise MissingWeights(f"backbone {name.architecture} has no weights", hint=hint)
