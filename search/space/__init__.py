"""What a search chooses from: candidates, how their channels are selected, what they cost on shapes alone."""

from .candidates import Candidate, Choices, Space, channel_counts, input_sizes
from .costs import candidate_costs
from .policies import POLICIES, Policy, Selection, select

__all__ = [
    "POLICIES",
    "Candidate",
    "Choices",
    "Policy",
    "Selection",
    "Space",
    "candidate_costs",
    "channel_counts",
    "input_sizes",
    "select",
]
