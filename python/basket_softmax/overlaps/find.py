"""`find_overlaps`: both searches, then a confidence for every mutual pair across baskets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..baskets import Baskets
from ..matching.search import MutualPairs, comparisons, joined, neighbours, offsets_of
from .confidence import TooFew, chance, confidence


class Overlaps(NamedTuple):
    """first, second: [P] int64 global classes, first < second; cosine: [P] fp32; confidence: [P] fp64 in [0, 1).

    Larger cosines come first, and so do larger confidences. A confidence of NaN is none: see `NoConfidence`.
    """

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray
    confidence: np.ndarray

    def select(self, chosen: np.ndarray) -> Overlaps:
        """The pairs of a mask or of positions."""
        return Overlaps(*(column[chosen] for column in self))


class NoConfidence(ValueError):
    """The pairs were found, but the baskets do not show what chance makes of neighbours; the message says why.

    overlaps: the pairs, each with a confidence of NaN.
    """

    def __init__(self, message: str, overlaps: Overlaps) -> None:
        super().__init__(message)
        self.overlaps = overlaps


def find_overlaps(
    centres: Tensor,
    baskets: Baskets | Tensor | Sequence[int],
    *,
    subcenters: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Overlaps:
    """Pairs of classes of different baskets that may be one identity, each with a confidence.

    A class may be in a pair with every other basket: someone in three baskets is three pairs.

    Args:
        centres: [C*r, D], as for `mutual_nearest`; best `class_prototypes`.
        baskets: a `Baskets`, or offsets [K + 1].
        subcenters: r, centres of a class, of which the nearest count.
        progress: called with the number of pairs of centres done since the last call; N (N - 1) / 2 in all for N = C*r
            (less where centres have no direction).

    Raises:
        NoConfidence: the baskets are too small for a confidence, or nearly all of their classes are in pairs, as with
            two versions of one dataset. A ValueError that holds the pairs.
        TypeError, ValueError: as for `mutual_nearest`; fewer than two baskets.
    """
    edges = offsets_of(baskets)
    if comparisons(edges) == 0:
        raise ValueError(f"baskets: expected at least two with classes, got offsets {edges}")
    across = list(neighbours(centres, edges, subcenters=subcenters, progress=progress))
    within = list(neighbours(centres, edges, within=True, subcenters=subcenters, progress=progress))
    pairs: MutualPairs = joined(found.pairs for found in across)
    first, second, cosine = (column.numpy() for column in pairs)
    try:
        null = chance(within, across, [b - a for a, b in pairwise(edges)])
    except TooFew as error:
        found = Overlaps(first, second, cosine, np.full(len(first), np.nan))
        raise NoConfidence(str(error), found) from None
    return Overlaps(first, second, cosine, confidence(cosine, null))
