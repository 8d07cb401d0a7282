"""Classes of different baskets that training found to be one identity: search, confidence, report, decisions."""

from .prototypes import class_prototypes
from .search import MutualPairs, comparisons, mutual_nearest, mutual_nearest_within

__all__ = ["MutualPairs", "class_prototypes", "comparisons", "mutual_nearest", "mutual_nearest_within"]
