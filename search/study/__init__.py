"""The Optuna study: where it is kept, which process runs which trial, and what survives a kill."""

from .storage import DEFAULT_STUDY, Storage
from .study import SAMPLERS, UNGUIDED, SearchStudy
from .trials import RunTrial, run_trials

__all__ = [
    "DEFAULT_STUDY",
    "SAMPLERS",
    "UNGUIDED",
    "RunTrial",
    "SearchStudy",
    "Storage",
    "run_trials",
]
