"""Classes of different baskets that are one identity: exact search of mutual nearest neighbours."""

from .search import MutualPairs, comparisons, mutual_nearest

__all__ = ["MutualPairs", "comparisons", "mutual_nearest"]
