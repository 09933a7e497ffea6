"""What a candidate is worth, looked at only as closely as it needs.

``Judge`` judges at three prices: closed forms, amortised networks, networks trained for the candidate alone.
``Evaluator`` decides how far to go for each, and writes an ``Evaluation``.
"""

from .budget import Budget, check_classes, search_splits
from .evaluator import Evaluator, closed_form_estimates
from .judge import Judge
from .records import ACCURACY, PRIVACY_METRICS, Evaluation, TrialRecord, distinct

__all__ = [
    "ACCURACY",
    "PRIVACY_METRICS",
    "Budget",
    "Evaluation",
    "Evaluator",
    "Judge",
    "TrialRecord",
    "check_classes",
    "closed_form_estimates",
    "distinct",
    "search_splits",
]
