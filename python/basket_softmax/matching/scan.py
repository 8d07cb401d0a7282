"""One pass over the pairs of two ranges of classes, tile by tile: each tile serves both directions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .cosines import Cosines
from .nearest import Nearest, candidates

TILE = 4096  # classes along each side: 32 MB of bfloat16
TOO_MANY = 0.02  # share of a tile's pairs from which on a tile in fp64 is cheaper than their exact cosines one by one


class Scan:
    """Offers every pair of classes to both classes' `Nearest`.

    Args:
        cosines: of all classes, or of all centres where a class has several.
        class_of: [rows of `cosines`] int64, rising: whose centre each is. Centres of one class are never offered to
            each other; None when each is a class of its own.
        progress: called with the number of pairs of every tile.
    """

    def __init__(
        self,
        cosines: Cosines,
        class_of: Tensor | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.cosines = cosines
        self.class_of = torch.arange(len(cosines.centres)) if class_of is None else class_of
        self.each = int(self.class_of.bincount().max()) if len(self.class_of) else 1
        self.progress = progress
        side = min(TILE, len(cosines.centres))
        self.memory = torch.empty(side * side, dtype=cosines.coarse.dtype)

    def __call__(self, a: slice, b: slice, of_a: Nearest, of_b: Nearest) -> None:
        """All pairs of `a` and `b`, in rising order; ranges that overlap are the same one, with `of_a` is `of_b`.

        Autocast is off meanwhile: a training step may be inside of it, and the error bounds hold without it only.
        """
        for rows in _tiles(a):
            for columns in _tiles(b):
                if a == b and columns.start < rows.start:
                    continue  # met already, the other way round
                here = of_a[slice(rows.start - a.start, rows.stop - a.start)]
                there = of_b[slice(columns.start - b.start, columns.stop - b.start)]
                sides = [(1, here, rows, columns), (0, there, columns, rows)]
                with torch.autocast("cpu", enabled=False):
                    self._tile(sides[:1] if rows == columns else sides)  # on the diagonal, rows say it all
                if self.progress is not None:
                    n = rows.stop - rows.start
                    self.progress(n * (n - 1) // 2 if rows == columns else n * (columns.stop - columns.start))

    def _tile(self, sides: list[tuple[int, Nearest, slice, slice]]) -> None:
        _, _, rows, columns = sides[0]
        tile = self.cosines.tile(rows, columns, self.memory)
        limit = max(TOO_MANY * tile.numel(), 4 * sum(tile.shape))
        if not self._offer(tile, self.cosines.coarse_error, sides, limit):
            # Many classes are as near as the screen can tell, and a finer one is cheaper than all their cosines.
            self._offer(self.cosines.fine_tile(rows, columns), self.cosines.fine_error, sides, math.inf)

    def _offer(
        self, tile: Tensor, error: float, sides: list[tuple[int, Nearest, slice, slice]], limit: float
    ) -> bool:
        """False, and no more than begun, when more than `limit` pairs would have to be computed exactly."""
        _, _, rows, columns = sides[0]
        same = self._leave_out_same(tile, rows, columns)
        for dim, nearest, mine, theirs in sides:
            for of, entry in candidates(tile, dim, nearest.cosine, error):
                limit -= len(of)
                if limit < 0:
                    return False
                index, other = of + mine.start, entry + theirs.start
                if same:  # of a row without any other entry they may be offered all the same
                    others = self.class_of[index] != self.class_of[other]
                    index, other, of = (part[others] for part in (index, other, of))
                nearest.offer(of, other, self.cosines.exact(index, other))
        return True

    def _leave_out_same(self, tile: Tensor, rows: slice, columns: slice) -> bool:
        """Set pairs of one class to -inf; whether there are any. They lie near the diagonal: a class's rows adjoin."""
        found = False
        for ahead in range(self.each):
            first, last = max(rows.start, columns.start - ahead), min(rows.stop, columns.stop - ahead)
            i = torch.arange(first, max(first, last))
            i = i[self.class_of[i] == self.class_of[i + ahead]]
            tile[i - rows.start, i + ahead - columns.start] = -math.inf
            if rows == columns:
                tile[i + ahead - rows.start, i - columns.start] = -math.inf
            found = found or len(i) > 0
        return found


def _tiles(classes: slice) -> list[slice]:
    return [slice(i, min(i + TILE, classes.stop)) for i in range(classes.start, classes.stop, TILE)]
