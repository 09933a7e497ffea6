"""How much memory a graph's activations take at once: the liveness of the buffers that hold them.

The rules are those of ONNX Runtime's CPU provider, on which the encoders run (docs/devices.md): which kernels
write over what they read, and which buffers its planner shares. They need names and shapes only, so a traced
network and an exported file are counted alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto


@dataclass(frozen=True)
class HeldTensor:
    """A tensor that a run makes or is given."""

    name: str
    shape: tuple[int, ...]
    element_bytes: int

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.element_bytes


class Role(Enum):
    """What of an operation decides about memory."""

    CONVOLUTION = auto()
    """One kernel with the addition, and then the activation, that alone read its output."""
    PRODUCT = auto()
    """A matrix product: with the activation."""
    ADDITION = auto()
    """Of two tensors."""
    IN_PLACE = auto()
    """Written over the first input where nobody reads that afterwards."""
    VIEW = auto()
    """The memory of the first input, read in another shape."""
    OTHER = auto()


@dataclass(frozen=True)
class Step:
    """What one operation reads and makes; weights among ``reads`` take no part.

    ``over``: the input that the output may be written over. ``scratch_bytes``: what it takes while it works.
    """

    reads: tuple[str, ...]
    makes: tuple[HeldTensor, ...]
    role: Role = Role.OTHER
    over: str | None = None
    scratch_bytes: int = 0


def peak_bytes(inputs: Sequence[HeldTensor], steps: Sequence[Step], outputs: Collection[str]) -> int:
    """The most bytes that buffers take at once; the caller holds the inputs until the end.

    A buffer that is free is kept for a later tensor of the same shape, if there is one.
    """
    steps = _kernels(steps, outputs)
    plan = _Plan(inputs, steps, outputs)
    end = len(steps)
    first = {given.name: 0 for given in inputs}
    last = {plan.buffer_of[name]: end for name in (*first, *outputs)}
    for place, step in enumerate(steps):
        for name in (*step.reads, *(made.name for made in step.makes)):
            if (buffer := plan.buffer_of.get(name)) is not None:
                first.setdefault(buffer, place)
                last[buffer] = max(last.get(buffer, 0), place)
    change = Counter[int]()
    for buffer, size in plan.bytes.items():
        change[first[buffer]] += size
        change[last[buffer] + 1] -= size
    alive, peak = 0, sum(given.bytes for given in inputs)
    for place, step in enumerate(steps):
        alive += change[place]
        peak = max(peak, alive + step.scratch_bytes)
    return peak


def _kernels(steps: Sequence[Step], outputs: Collection[str]) -> list[Step]:
    """The steps, those joined that are one kernel; it runs where the last of them is."""
    readers = Counter(name for step in steps for name in step.reads)
    kernels: dict[str, Step] = {}
    place: dict[str, int] = {}
    for step in steps:
        alone = [name for name in step.reads if readers[name] == 1 and name not in outputs]
        before = sorted((name for name in alone if name in kernels), key=place.__getitem__)
        if step.role is Role.IN_PLACE:
            step = replace(step, over=step.reads[0])
            if before and kernels[before[-1]].role in (Role.CONVOLUTION, Role.PRODUCT):
                # Another activation could join it, but no addition.
                step = replace(kernels.pop(before[-1]), makes=step.makes, role=Role.PRODUCT)
        elif step.role is Role.ADDITION:
            convolutions = [name for name in before if kernels[name].role is Role.CONVOLUTION]
            if convolutions and kernels[convolutions[-1]].over is None:
                convolution = kernels.pop(convolutions[-1])
                (other,) = (name for name in step.reads if name != convolutions[-1])
                step = replace(convolution, reads=(*convolution.reads, other), makes=step.makes, over=other)
        kernels[step.makes[0].name], place[step.makes[0].name] = step, len(place)
    return list(kernels.values())


class _Plan:
    """Which buffer holds each tensor; a buffer is named by the tensor that it was made for."""

    def __init__(self, inputs: Sequence[HeldTensor], steps: Sequence[Step], outputs: Collection[str]) -> None:
        self.bytes = {given.name: given.bytes for given in inputs}
        self.buffer_of = {given.name: given.name for given in inputs}
        self._outputs = outputs
        self._reads_of = Counter(name for step in steps for name in step.reads)
        self._reads_left: dict[str, int] = {}
        self._free: list[HeldTensor] = []
        self._made: dict[str, HeldTensor] = {}
        for step in steps:
            for made in step.makes:
                self._hold(made, step)
            for name in step.reads:
                self._read(name)
            for made in step.makes:
                if not self._reads_of[made.name]:
                    self._release(self.buffer_of[made.name])

    def _hold(self, made: HeldTensor, step: Step) -> None:
        view = step.reads[0] if step.role is Role.VIEW else ""
        over = self.buffer_of.get(step.over or "")
        if made.name in self._outputs:
            buffer = None  # an output leaves in a buffer of its own
        elif view in self.buffer_of:
            buffer = self.buffer_of[view]
        elif over is not None and self._is_last_read(over, made):
            buffer = over
        else:
            buffer = self._take_free(made)
        if buffer is None:
            buffer = made.name
            self._made[buffer], self.bytes[buffer] = made, made.bytes
            self._reads_left[buffer] = int(made.name in self._outputs)
        self.buffer_of[made.name] = buffer
        if buffer in self._reads_left:
            self._reads_left[buffer] += self._reads_of[made.name]

    def _is_last_read(self, buffer: str, made: HeldTensor) -> bool:
        return self._reads_left.get(buffer) == 1 and self.bytes[buffer] == made.bytes

    def _take_free(self, made: HeldTensor) -> str | None:
        for place, free in enumerate(self._free):
            if (free.shape, free.element_bytes) == (made.shape, made.element_bytes):
                return self._free.pop(place).name
        return None

    def _read(self, name: str) -> None:
        buffer = self.buffer_of.get(name)
        if buffer in self._reads_left:
            self._reads_left[buffer] -= 1
            self._release(buffer)

    def _release(self, buffer: str) -> None:
        if self._reads_left.get(buffer) == 0:
            self._free.insert(0, self._made[buffer])
