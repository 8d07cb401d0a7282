"""The negatives of one row in plain Python floats and lists, straight from the definition; no torch inside."""

from __future__ import annotations

import math
from typing import NamedTuple

from bbs_kernels.rules import Absolute, All, Below, Own, Relative, TopK


class Row(NamedTuple):
    lse: float
    cos_t: float
    mined: list[list[int]]


def cosine(a: list[float], b: list[float]) -> float:
    na, nb = math.hypot(*a), math.hypot(*b)
    return sum(p * q for p, q in zip(a, b, strict=True)) / (na * nb) if na > 0 and nb > 0 else 0.0


def row(
    x: list[float], w: list[list[float]], y: int, sizes: list[int], scale: float, mining, aliases: list[int] | None,
    subcenters: int = 1,
) -> Row:  # fmt: skip
    basket = [b for b, size in enumerate(sizes) for _ in range(size)]
    c = [max(cosine(x, w[j * subcenters + q]) for q in range(subcenters)) for j in range(len(basket))]

    def mate(j: int) -> bool:
        return aliases is not None and aliases[y] >= 0 and aliases[j] == aliases[y]

    guard = getattr(mining, "guard", None)
    limit = math.inf
    if isinstance(guard, Absolute):
        limit = guard.t
    elif isinstance(guard, Relative):
        limit = c[y] - guard.d

    negatives = [j for j in range(len(c)) if basket[j] == basket[y] and j != y and not mate(j)]
    mined: list[list[int]] = [[] for _ in sizes]
    for b in range(len(sizes)):
        if b == basket[y] or isinstance(mining, Own):
            continue
        members = [j for j in range(len(c)) if basket[j] == b]
        candidates = [j for j in members if not mate(j) and (isinstance(mining, All) or c[j] <= limit)]
        if isinstance(mining, TopK):
            skip = max(mining.skip - sum(map(mate, members)), 0)
            candidates = sorted(candidates, key=lambda j: (-c[j], j))[skip : skip + mining.k]
            mined[b] = candidates
        assert isinstance(mining, (All, Below, TopK))
        negatives += candidates
    total = sum(math.exp(scale * c[j]) for j in negatives)
    return Row(math.log(total) if total > 0 else -math.inf, c[y], mined)
