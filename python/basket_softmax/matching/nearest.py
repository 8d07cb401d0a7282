"""The nearest class of each class so far, kept exact while tiles of approximate cosines go by.

A tile only has to say which pairs *could* beat what is known: those whose approximate cosine lies above the known one
less the error bound, and above the tile's own best less twice the bound. These few are computed in fp64. A row is cut
into groups of `GROUP` entries and only groups whose peak is high enough are looked through. Members of a group lie
a stride apart, not side by side, since a maximum over an outer dimension runs at full vector width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

GROUP = 32
HITS_AT_A_TIME = 1 << 16  # groups looked through at once: 4 MB of bfloat16
NOBODY = -1


class Nearest:
    """cosine [n] fp64 and index [n] int64 of the best neighbour of n classes; among equal ones the lowest index.

    Args:
        n: classes.
        minimum: neighbours below it are not looked for; such a class keeps index -1.
    """

    def __init__(self, n: int, minimum: float = -1.0) -> None:
        start = minimum if minimum > -1 else -math.inf  # rounding may take a cosine below -1
        self.cosine = torch.full((n,), math.nextafter(start, -math.inf), dtype=torch.float64)
        self.index = torch.full((n,), NOBODY)

    def __getitem__(self, part: slice) -> Nearest:
        """The same memory, of some of the classes."""
        view = object.__new__(Nearest)
        view.cosine, view.index = self.cosine[part], self.index[part]
        return view

    def offer(self, rows: Tensor, index: Tensor, cosine: Tensor) -> None:
        """Neighbours `index` [m] of the classes `rows` [m] with exact cosines [m]; a class may come several times."""
        best = torch.full_like(self.cosine, -math.inf).scatter_reduce_(0, rows, cosine, "amax")
        winners = cosine == best[rows]
        lowest = torch.full_like(self.index, torch.iinfo(torch.int64).max)
        lowest.scatter_reduce_(0, rows[winners], index[winners], "amin")
        better = (best > self.cosine) | ((best == self.cosine) & (lowest < self.index))
        self.cosine[better] = best[better]
        self.index[better] = lowest[better]


def candidates(tile: Tensor, dim: int, known: Tensor, error: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Entries of a tile that may be the best of their class, or better than what is known of it.

    Args:
        tile: [m, n], cosines within `error` of the exact ones, then rounded to the tile's dtype.
        dim: 1: the classes are the rows, the entries of a row compete. 0: the columns.
        known: [classes] fp64, the exact best cosine of each class so far; read once, at the start.
        error: see `tile`.

    Yields:
        Positions of classes and of entries, [p] int64 each; the same pair may come more than once.
    """
    size = tile.shape[dim]
    stride = size // GROUP
    grouped = GROUP * stride
    parts = []
    if stride:
        parts.append(tile.narrow(dim, 0, grouped).unflatten(dim, (GROUP, stride)).amax(dim))
    if grouped < size:  # what is left: fewer than GROUP entries
        parts.append(tile.narrow(dim, grouped, size - grouped).amax(dim, keepdim=True))
    peaks = torch.cat(parts, dim)
    own = _below(peaks.amax(dim)).double() - 2 * error
    floor = _round_down(torch.maximum(known - error, own), tile.dtype)
    members = torch.arange(GROUP)
    for hit in torch.nonzero(peaks >= floor.unsqueeze(dim)).split(HITS_AT_A_TIME):
        of, group = hit[:, 1 - dim, None], hit[:, dim, None]
        entries = torch.where(group == stride, grouped + members, group + stride * members)
        entries.clamp_(max=size - 1)  # the group of what is left repeats its last entry
        values = tile[of, entries] if dim == 1 else tile[entries, of]
        row, place = torch.nonzero(values >= floor[of], as_tuple=True)
        yield of[row, 0], entries[row, place]


def _below(values: Tensor) -> Tensor:
    """The next smaller value: whatever was rounded to `values` was at least this."""
    return torch.nextafter(values, torch.full_like(values, -math.inf))


def _round_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    """fp64 to `dtype`, rounded down: what is at least `values` stays at least the result when it is rounded."""
    near = values.to(dtype)
    return torch.where(near.double() > values, _below(near), near)
