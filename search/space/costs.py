"""What a candidate costs, found on shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...artifacts import Payload
from ...encoders import Costs
from .candidates import Candidate, Space
from .policies import POLICIES


def candidate_costs(space: Space, candidate: Candidate, channels: Sequence[int] | None = None) -> Costs:
    """What the candidate's encoder costs, on shapes alone; ``channels``: those kept (default: the first)."""
    splitter = space.splitters[candidate.network]
    every = splitter.cut(candidate.cut).channels
    mixes = POLICIES[candidate.policy].mixes is not None and candidate.channels < every
    # Samplers come back to the same places, with other policies, noise and bits.
    known = candidate.site, candidate.channels, mixes, tuple(channels or ())
    if known not in space.costs:
        space.costs[known] = (
            splitter.costs(candidate.cut, range(every), outputs=candidate.channels)
            if mixes
            else splitter.costs(candidate.cut, channels or range(candidate.channels))
        )
    payload = Payload(bits=candidate.bits)
    return replace(space.costs[known], payload_bytes=payload.bytes(space.shape(candidate)))
