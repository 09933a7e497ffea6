"""Limits: where each comes from, how far a candidate is from them, and which no candidate can meet."""

from .contradictions import check_limits, least_costs
from .limits import Limits, cost_metrics

__all__ = [
    "Limits",
    "check_limits",
    "cost_metrics",
    "least_costs",
]
