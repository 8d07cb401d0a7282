"""Which classes belong together: search for the nearest classes, and sets of classes. No images, no head, no files."""

from .disjoint_sets import DisjointSets
from .groups import Groups
from .search import MutualPairs, comparisons, mutual_nearest, mutual_nearest_within

__all__ = [
    "DisjointSets",
    "Groups",
    "MutualPairs",
    "comparisons",
    "mutual_nearest",
    "mutual_nearest_within",
]
