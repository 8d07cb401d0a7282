"""Pairs of classes of different baskets that are each other's nearest neighbour: exact, in tiles, never C x C.

Each tile of cosines serves both directions, row by row and column by column. 1 M classes are 5e11 pairs at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ..baskets import Baskets
from .cosines import Cosines, with_direction
from .nearest import Nearest, candidates

TILE = 4096  # classes along each side: 32 MB of bfloat16
TOO_MANY = 0.02  # share of a tile's pairs from which on a tile in fp64 is cheaper than their exact cosines one by one


class MutualPairs(NamedTuple):
    """first, second: [P] int64 global classes, first < second; cosine: [P] fp32. Larger cosines come first."""

    first: Tensor
    second: Tensor
    cosine: Tensor


@torch.no_grad()
def mutual_nearest(
    centres: Tensor,
    baskets: Baskets | Tensor | Sequence[int],
    *,
    per_basket: bool = True,
    minimum: float = -1.0,
    progress: Callable[[int], None] | None = None,
) -> MutualPairs:
    """Classes of different baskets that are each other's nearest neighbour by cosine.

    The result is exact: a fast screen with a proven error bound only leaves out pairs that cannot be nearest, and the
    rest is computed in fp64 and compared as fp32. Among equal cosines the lowest class index is nearest, so the result
    does not depend on threads, tiles or the screen. Memory: one copy of the centres in bfloat16 (or fp32), and some
    100 MB for a tile.

    Args:
        centres: [C, D], any floating dtype, on the CPU; prototypes or class centres, of any norm. A row with a norm
            below 1e-12 has no direction and takes no part.
        baskets: which basket each class belongs to, a `Baskets` or its offsets [K + 1].
        per_basket: True: nearest within each other basket, so a class may be in a pair with every other basket.
            False: nearest over all other baskets together, so a class is in one pair at most.
        minimum: pairs with a smaller cosine are left out, which also saves time.
        progress: called with the number of pairs of classes done since the last call; they add up to
            `comparisons(baskets)` (less where centres have no direction).

    Returns:
        MutualPairs, ordered by falling cosine, then by class.

    Raises:
        TypeError: `centres` is not a floating tensor.
        ValueError: not [C, D] on the CPU, a value that is not finite, offsets that do not fit, `minimum` outside
            [-1, 1].
    """
    offsets = _offsets(baskets)
    _check(centres, offsets, minimum)
    valid = with_direction(centres)
    if not bool(valid.all()):
        kept = torch.nonzero(valid).flatten()
        counts = torch.cat((torch.zeros(1, dtype=torch.int64), valid.long().cumsum(0)))
        few = mutual_nearest(
            centres[kept],
            counts[torch.tensor(offsets)],
            per_basket=per_basket,
            minimum=minimum,
            progress=progress,
        )
        return MutualPairs(kept[few.first], kept[few.second], few.cosine)
    cosines = Cosines(centres.detach())
    scan = _Scan(cosines, progress)
    classes = [slice(a, b) for a, b in pairwise(offsets)]
    found = []
    if per_basket:
        for a, b in combinations(classes, 2):
            of_a, of_b = Nearest(a.stop - a.start, minimum), Nearest(b.stop - b.start, minimum)
            scan(a, b, of_a, of_b)
            first = _mutual(of_a.index - b.start, of_b.index - a.start)
            found.append((first + a.start, of_a.index[first]))
    else:
        nearest = Nearest(len(centres), minimum)
        for a in classes:
            b = slice(a.stop, len(centres))
            scan(a, b, nearest[a], nearest[b])
        first = _mutual(nearest.index, nearest.index)
        first = first[first < nearest.index[first]]
        found.append((first, nearest.index[first]))
    empty = torch.empty(0, dtype=torch.int64)
    first, second = (torch.cat((empty, *part)) for part in zip((empty, empty), *found, strict=True))
    cosine = cosines.exact(first, second)
    by_class = torch.argsort(first * len(centres) + second)
    order = by_class[torch.argsort(cosine[by_class], descending=True, stable=True)]
    return MutualPairs(first[order], second[order], cosine[order].float())


def comparisons(baskets: Baskets | Tensor | Sequence[int]) -> int:
    """Pairs of classes of different baskets: what a search compares."""
    offsets = _offsets(baskets)
    return sum((b - a) * (offsets[-1] - b) for a, b in pairwise(offsets))


class _Scan:
    """One pass over all pairs of two ranges of classes, tile by tile in rising order."""

    def __init__(self, cosines: Cosines, progress: Callable[[int], None] | None) -> None:
        self.cosines = cosines
        self.progress = progress
        side = min(TILE, len(cosines.centres))
        self.memory = torch.empty(side * side, dtype=cosines.coarse.dtype)

    def __call__(self, a: slice, b: slice, of_a: Nearest, of_b: Nearest) -> None:
        for rows in _tiles(a):
            for columns in _tiles(b):
                here = of_a[slice(rows.start - a.start, rows.stop - a.start)]
                there = of_b[slice(columns.start - b.start, columns.stop - b.start)]
                self._tile(rows, columns, here, there)
                if self.progress is not None:
                    self.progress((rows.stop - rows.start) * (columns.stop - columns.start))

    def _tile(self, rows: slice, columns: slice, of_rows: Nearest, of_columns: Nearest) -> None:
        tile = self.cosines.tile(rows, columns, self.memory)
        limit = max(TOO_MANY * tile.numel(), 4 * sum(tile.shape))
        if not self._offer(tile, self.cosines.coarse_error, rows, columns, of_rows, of_columns, limit):
            # Many classes are as near as the screen can tell, and a finer one is cheaper than all their cosines.
            tile = self.cosines.fine_tile(rows, columns)
            self._offer(tile, self.cosines.fine_error, rows, columns, of_rows, of_columns, math.inf)

    def _offer(
        self,
        tile: Tensor,
        error: float,
        rows: slice,
        columns: slice,
        of_rows: Nearest,
        of_columns: Nearest,
        limit: float,
    ) -> bool:
        """Both directions of a tile; False, and no more than begun, when more than `limit` pairs must be rescored."""
        for dim, nearest, mine, theirs in ((1, of_rows, rows, columns), (0, of_columns, columns, rows)):
            for of, entry in candidates(tile, dim, nearest.cosine, error):
                limit -= len(of)
                if limit < 0:
                    return False
                index = entry + theirs.start
                nearest.offer(of, index, self.cosines.exact(of + mine.start, index))
        return True


def _tiles(classes: slice) -> list[slice]:
    return [slice(i, min(i + TILE, classes.stop)) for i in range(classes.start, classes.stop, TILE)]


def _mutual(of_a: Tensor, of_b: Tensor) -> Tensor:
    """Positions i with of_b[of_a[i]] == i; a negative value is nobody."""
    i = torch.nonzero(of_a >= 0).flatten()
    return i[of_b[of_a[i]] == i]


def _offsets(baskets: Baskets | Tensor | Sequence[int]) -> list[int]:
    if isinstance(baskets, Baskets):
        baskets = baskets.offsets
    offsets = [int(edge) for edge in (baskets.tolist() if isinstance(baskets, Tensor) else baskets)]
    if len(offsets) < 2 or offsets[0] != 0 or sorted(offsets) != offsets:
        raise ValueError(
            f"baskets has offsets {offsets}, allowed are rising ones that start at 0 and end at C"
        )
    return offsets


def _check(centres: Tensor, offsets: list[int], minimum: float) -> None:
    if not isinstance(centres, Tensor) or not centres.is_floating_point():
        kind = centres.dtype if isinstance(centres, Tensor) else type(centres).__name__
        raise TypeError(f"centres must be a floating tensor [C, D], got {kind}")
    if centres.dim() != 2 or len(centres) != offsets[-1] or centres.device.type != "cpu":
        raise ValueError(
            f"centres has shape {tuple(centres.shape)} on {centres.device}, allowed is [{offsets[-1]}, D] on the CPU"
        )
    if not -1 <= minimum <= 1:
        raise ValueError(f"minimum is {minimum}, allowed are cosines in [-1, 1]")
