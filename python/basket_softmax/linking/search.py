"""Mutual nearest neighbours, in chunks; stands in for `overlaps.mutual_nearest` until it is there."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 4096


class MutualPairs(NamedTuple):
    """first, second: [P] int64, first < second; cosine: [P]. Larger cosines come first."""

    first: Tensor
    second: Tensor
    cosine: Tensor


def mutual_nearest(centres: Tensor, offsets: Tensor, *, minimum: float) -> MutualPairs:
    """Pairs of classes of two baskets that are each other's nearest there, at `minimum` or more."""
    unit = torch.nn.functional.normalize(centres.double())
    seen = torch.linalg.vector_norm(unit, dim=1) > 0
    parts = [slice(a, b) for a, b in pairwise(offsets.tolist()) if b > a]
    found = []
    for a, b in combinations(parts, 2):
        of_a, best = _nearest(unit[a], unit[b])
        of_b, _ = _nearest(unit[b], unit[a])
        i = torch.arange(a.stop - a.start)
        good = (of_b[of_a] == i) & (best >= minimum) & seen[a] & seen[b][of_a]
        found.append((i[good] + a.start, of_a[good] + b.start, best[good]))
    if not found:
        none = torch.empty(0, dtype=torch.int64)
        return MutualPairs(none, none, torch.empty(0, dtype=torch.float64))
    first, second, cosine = (torch.cat(part) for part in zip(*found, strict=True))
    order = cosine.sort(descending=True, stable=True).indices
    return MutualPairs(first[order], second[order], cosine[order])


def _nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    index, best = [], []
    for rows in a.split(CHUNK):
        found = (rows @ b.t()).max(1)
        index.append(found.indices)
        best.append(found.values)
    return torch.cat(index), torch.cat(best)
