"""Data sources, their splits, and scores over images.

``open_data`` turns a source string (``digits``, ``cifar10``, ``folder:PATH``, …) into a ``DataSet``; each
``Split`` streams uint8 RGB images of any size in batches. Splits depend on the images alone, never on a seed.
A data set may hold private attributes of its images beside the class.
"""

from .attributes import Attribute
from .dataset import DataSet, Split
from .scores import Score
from .sources import open_data
from .splits import SPLITS

__all__ = ["SPLITS", "Attribute", "DataSet", "Score", "Split", "open_data"]
