"""Classes of different baskets that training found to be one identity: search, confidence, report, decisions."""

from .find import Overlaps, find_overlaps
from .prototypes import class_prototypes
from .search import MutualPairs, comparisons, mutual_nearest, mutual_nearest_within

__all__ = [
    "MutualPairs",
    "Overlaps",
    "class_prototypes",
    "comparisons",
    "find_overlaps",
    "mutual_nearest",
    "mutual_nearest_within",
]
