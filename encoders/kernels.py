"""What a runtime executes of a network: its operations, fused into kernels.

A traced network and an exported file are both told as a list of operations, so that they are counted alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Literal

KernelKind = Literal[
    "conv3x3s1",
    "conv",
    "pointwise",
    "depthwise",
    "grouped",
    "linear",
    "pool",
    "mean",
    "elementwise",
    "move",
    "image",
]
Shapes = Mapping[str, Sequence[int]]

IMAGE_CHANNELS = 4
"""Images have at most so many channels; convolutions read them as they are."""


class Work(Enum):
    """What an operation does, as far as its cost is concerned."""

    CONVOLUTION = auto()
    LINEAR = auto()
    FUSABLE_ACTIVATION = auto()
    """Elementwise, one tensor in; computed by the kernel that it alone reads."""
    ELEMENTWISE = auto()
    POOL = auto()
    """Over windows."""
    MEAN = auto()
    """Over all of space."""
    ADDITION = auto()
    """Of tensors of one shape, as at the end of a residual block."""
    CONCATENATION = auto()
    MOVE = auto()
    """Copies values without computing."""
    VIEW = auto()
    """Only re-reads its input's memory, or is done inside its reader, as zero padding is."""


class Activation(Enum):
    """What an activation other than ReLU computes of each element; ReLU costs nothing of its own."""

    BOUND = auto()
    """A comparison or two: ReLU6, leaky ReLU, hard sigmoid."""
    CURVE = auto()
    """More: sigmoid, SiLU, GELU, hard swish."""


@dataclass(frozen=True)
class Convolution:
    """The shape of a two-dimensional convolution; ``window`` and ``stride`` are (height, width)."""

    input_channels: int
    output_channels: int
    groups: int
    window: tuple[int, int]
    stride: tuple[int, int]
    output_height: int
    output_width: int

    @property
    def kind(self) -> KernelKind:
        """How runtimes compute it."""
        if self.groups > 1:
            return "depthwise" if self.groups == self.input_channels else "grouped"
        if self.window == (1, 1):
            return "pointwise"
        return "conv3x3s1" if self.window == (3, 3) and self.stride == (1, 1) else "conv"

    @property
    def reads_image(self) -> bool:
        """Whether it reads an image, which is never kept in blocks of channels."""
        return self.input_channels <= IMAGE_CHANNELS

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        outputs = self.output_channels * self.output_height * self.output_width
        return outputs * (self.input_channels // self.groups) * math.prod(self.window)


@dataclass(frozen=True)
class Operation:
    """One operation of a graph: the names of the tensors that it reads, weights left out, and makes.

    ``weights`` is a number of parameters; ``macs`` those of a linear layer, a convolution's follow from its
    shape. ``activation`` is None for ReLU and for what is none.
    """

    work: Work
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: int = 0
    macs: int = 0
    convolution: Convolution | None = None
    activation: Activation | None = None


@dataclass(frozen=True)
class Kernel:
    """One fused kernel: a convolution with its padding and activation, a pooling, an addition.

    ``reordered_elements`` of its input, or of the graph's output that it makes, pass between convolutions
    and other work: where convolutions keep their tensors in blocks of channels, those are copied;
    ``reorders`` is the number of such tensors. ``bounded_elements`` and ``activated_elements`` are those on
    which it computes an :class:`Activation`, BOUND or CURVE, which costs a pass of its own. Kind ``image``
    prepares the image: casts, permutes, normalises.
    """

    kind: KernelKind
    macs: int
    weights: int
    """Number of parameters."""
    input_elements: int
    output_elements: int
    convolution: Convolution | None = None
    reordered_elements: int = 0
    reorders: int = 0
    bounded_elements: int = 0
    activated_elements: int = 0


_KINDS: dict[Work, KernelKind] = {
    Work.LINEAR: "linear",
    Work.FUSABLE_ACTIVATION: "elementwise",
    Work.ELEMENTWISE: "elementwise",
    Work.POOL: "pool",
    Work.MEAN: "mean",
    Work.ADDITION: "elementwise",
    Work.CONCATENATION: "move",
    Work.MOVE: "move",
}
_COMPUTES = (Work.CONVOLUTION, Work.LINEAR, Work.ADDITION)
_KEEPS_BLOCKS = (Work.POOL, Work.ADDITION, Work.CONCATENATION, Work.FUSABLE_ACTIVATION)


def fuse(operations: Sequence[Operation], shapes: Shapes, outputs: Sequence[str]) -> tuple[Kernel, ...]:
    """The kernels of one run, in the operations' order.

    ``shapes`` has that of every tensor named; ``outputs`` names what the graph gives.
    """
    fusion = _Fusion(operations, shapes)
    for operation in operations:
        if operation.work is not Work.VIEW and operation.inputs:
            fusion.add(operation)
    for name in outputs:
        fusion.give(name)
    return tuple(fusion.kernels)


class _Fusion:
    """The kernels so far, and of each tensor which one makes it and whether it lies in blocks of channels.

    ``_images`` are the graph's inputs of few channels, and what only moves and scales them.
    """

    def __init__(self, operations: Sequence[Operation], shapes: Shapes) -> None:
        self.kernels: list[Kernel] = []
        self._shapes = shapes
        self._source = _sources(operations)
        self._makers = {name: operation for operation in operations for name in operation.outputs}
        self._readers = Counter(
            self._of(name)
            for operation in operations
            if operation.work is not Work.VIEW
            for name in operation.inputs
        )
        self._places: dict[str, int] = {}
        self._blocked: dict[str, bool] = {}
        self._copied: set[str] = set()
        read = {self._of(name) for operation in operations for name in operation.inputs}
        self._images = {name for name in read - self._makers.keys() if _has_few_channels(shapes[name])}

    def _of(self, name: str) -> str:
        """The tensor whose memory a tensor is."""
        return self._source.get(name, name)

    def add(self, operation: Operation) -> None:
        """An operation as a kernel, or as a part of the one that it reads."""
        inputs = [self._of(name) for name in operation.inputs]
        if self._is_fused(operation, inputs[0]):
            (made,) = operation.outputs
            place = self._places[made] = self._places[inputs[0]]
            self._blocked[made] = self._blocked[inputs[0]]
            self.kernels[place] = _with(self.kernels[place], **_activated(operation, self._shapes))
            return
        in_blocks = operation.work is Work.CONVOLUTION or (
            operation.work in _KEEPS_BLOCKS and all(self._blocked.get(name, False) for name in inputs)
        )
        copied = [name for name in dict.fromkeys(inputs) if self._is_copied(name, in_blocks)]
        self._copied.update(copied)
        prepares = operation.work in (Work.MOVE, Work.ELEMENTWISE) and self._images.issuperset(inputs)
        if prepares:
            self._images.update(operation.outputs)
        for name in operation.outputs:
            self._blocked[name] = in_blocks
            self._places[name] = len(self.kernels)
        kind = "image" if prepares else _kind(operation)
        self.kernels.append(_kernel(operation, kind, inputs, copied, self._shapes))

    def give(self, name: str) -> None:
        """An output of the graph, which leaves as other work reads it."""
        made = self._of(name)
        if self._blocked.get(made, False) and made not in self._copied:
            place = self._places[made]
            self.kernels[place] = _with(self.kernels[place], reordered=math.prod(self._shapes[made]))

    def _is_fused(self, operation: Operation, source: str) -> bool:
        maker = self._makers.get(source)
        return (
            operation.work is Work.FUSABLE_ACTIVATION
            and self._readers[source] == 1
            and maker is not None
            and maker.work in _COMPUTES
        )

    def _is_copied(self, name: str, in_blocks: bool) -> bool:
        """Whether an input must be laid out anew; it is then there for all who read it so."""
        if in_blocks and name in self._images:
            return False
        return self._blocked.get(name, False) != in_blocks and name not in self._copied


def _sources(operations: Sequence[Operation]) -> dict[str, str]:
    """For what a view makes, the tensor whose memory it is."""
    source: dict[str, str] = {}
    for operation in operations:
        if operation.work is Work.VIEW and operation.inputs:
            for name in operation.outputs:
                source[name] = source.get(operation.inputs[0], operation.inputs[0])
    return source


def _has_few_channels(shape: Sequence[int]) -> bool:
    """Whether a tensor can be an image, channels first or last; noise for small features is none."""
    if len(shape) != 4:
        return False
    return shape[1] <= IMAGE_CHANNELS or (shape[3] <= IMAGE_CHANNELS < min(shape[1:3]))


def _kind(operation: Operation) -> KernelKind:
    return operation.convolution.kind if operation.convolution else _KINDS[operation.work]


def _kernel(
    operation: Operation, kind: KernelKind, inputs: Sequence[str], copied: Sequence[str], shapes: Shapes
) -> Kernel:
    convolution = operation.convolution
    return Kernel(
        kind=kind,
        macs=convolution.macs if convolution else operation.macs,
        weights=operation.weights,
        input_elements=sum(math.prod(shapes[name]) for name in inputs),
        output_elements=sum(math.prod(shapes[name]) for name in operation.outputs),
        convolution=convolution,
        reordered_elements=sum(math.prod(shapes[name]) for name in copied),
        reorders=len(copied),
        **{f"{name}_elements": count for name, count in _activated(operation, shapes).items()},
    )


def _activated(operation: Operation, shapes: Shapes) -> dict[str, int]:
    """The elements that an operation bounds or activates."""
    if operation.activation is None:
        return {}
    name = "bounded" if operation.activation is Activation.BOUND else "activated"
    return {name: math.prod(shapes[operation.outputs[0]])}


def _with(kernel: Kernel, *, reordered: int = 0, bounded: int = 0, activated: int = 0) -> Kernel:
    """The kernel with so many elements more."""
    return replace(
        kernel,
        reordered_elements=kernel.reordered_elements + reordered,
        reorders=kernel.reorders + (reordered > 0),
        bounded_elements=kernel.bounded_elements + bounded,
        activated_elements=kernel.activated_elements + activated,
    )
