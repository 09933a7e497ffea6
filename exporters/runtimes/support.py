"""Which nodes of an exported graph each runtime takes, and whether that is enough of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import NegativeResult, unknown
from .documented import taken_by_coreml, taken_by_nnapi, taken_by_qnn, taken_by_xnnpack
from .graph import PRODUCTS, Graph

if TYPE_CHECKING:
    import onnx

_MOST_NAMED = 8


@dataclass(frozen=True)
class Support:
    """What a runtime takes of a graph; ONNX Runtime's CPU provider computes the rest."""

    supported: bool
    """Whether the runtime is of use for it: see ``RUNTIMES``."""
    nodes: int
    """How many nodes it takes."""
    unsupported: tuple[str, ...]
    """The names of those that are left to the CPU provider, in the graph's order."""
    partitions: int | None
    """In how many pieces the runtime gets what it takes; ``None`` where it takes nodes one by one."""


@dataclass(frozen=True)
class _Runtime:
    taken: Callable[[Graph], set[int]]
    compiles: bool
    """Whether it compiles pieces of the graph for another processor, to which tensors are handed over."""
    hint: str


_OTHERWISE = "leave --for out to export what runs on the CPU, or choose another cut or backbone"
RUNTIMES = {
    "cpu": _Runtime(lambda graph: set(range(len(graph.nodes))), False, _OTHERWISE),
    "xnnpack": _Runtime(
        taken_by_xnnpack, False, "it multiplies no uint8 with int8: export in float32, or leave --for out"
    ),
    "nnapi": _Runtime(taken_by_nnapi, True, _OTHERWISE),
    "coreml": _Runtime(taken_by_coreml, True, f"it takes no int8, which float32 helps; else {_OTHERWISE}"),
    "qnn": _Runtime(taken_by_qnn, True, "its NPU computes with integers: add --precision int8"),
}
"""A runtime is of use where it takes every convolution and matrix product; one that compiles, where it also
takes all that lies between the first and the last of them, so that it gets the network in one piece. The
camera's bytes before and the payload's after may stay on the CPU."""


def support(model: onnx.ModelProto) -> dict[str, Support]:
    """What each of ``RUNTIMES`` takes of a model with static shapes."""
    graph = Graph(model)
    found = {}
    for name, runtime in RUNTIMES.items():
        taken = runtime.taken(graph)
        left = [place for place in range(len(graph.nodes)) if place not in taken]
        found[name] = Support(
            supported=not _missed(graph, taken, runtime),
            nodes=len(taken),
            unsupported=tuple(graph.nodes[place].name for place in left),
            partitions=_partitions(graph, taken) if runtime.compiles or name == "cpu" else None,
        )
    return found


def check_runtime(name: str) -> None:
    """Raise ``InputError`` for a name that is not in ``RUNTIMES``."""
    if name not in RUNTIMES:
        raise unknown("runtime", name, RUNTIMES)


def check_for(model: onnx.ModelProto, runtime: str) -> None:
    """Raise ``NegativeResult``, with the nodes in the way, where ``runtime`` is of no use for this model."""
    graph, asked = Graph(model), RUNTIMES[runtime]
    missed = [graph.nodes[place].name for place in _missed(graph, asked.taken(graph), asked)]
    if missed:
        more = f" and {len(missed) - _MOST_NAMED} more" if len(missed) > _MOST_NAMED else ""
        raise NegativeResult(
            f"{runtime} cannot run {len(missed)} of the network's nodes: "
            f"{', '.join(missed[:_MOST_NAMED])}{more}",
            hint=f"nothing was written; {asked.hint}",
        )


def _missed(graph: Graph, taken: Collection[int], runtime: _Runtime) -> list[int]:
    """The places of the nodes that the runtime would have to take and does not."""
    products = {place for place, node in enumerate(graph.nodes) if node.op_type in PRODUCTS}
    return sorted((graph.network() if runtime.compiles else products).difference(taken))


def _partitions(graph: Graph, taken: Collection[int]) -> int:
    """The number of pieces: a node belongs to a later one than all that must run before it elsewhere."""
    pieces: list[int] = []
    for place in range(len(graph.nodes)):
        earlier = [pieces[at] + (at in taken and place not in taken) for at in graph.producers(place)]
        pieces.append(max(earlier, default=0))
    return len({pieces[place] for place in taken})
