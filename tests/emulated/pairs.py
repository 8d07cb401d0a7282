"""Pairwise tests: few cases in which every two values of different factors meet."""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Mapping, Sequence
from typing import Any


def pairwise(factors: Mapping[str, Sequence[Hashable]], tries: int = 6) -> list[dict[str, Any]]:
    """Cases that cover every pair of values; the same for the same arguments."""
    rng = random.Random(0)
    names = list(factors)
    left = {
        ((a, v), (b, u)): None  # a set in order
        for a, b in itertools.combinations(names, 2)
        for v, u in itertools.product(factors[a], factors[b])
    }
    cases: list[dict[str, Any]] = []
    while left:
        first = dict(next(iter(left)))
        drawn = [_completed(first, factors, left, rng) for _ in range(tries)]
        best = max(drawn, key=lambda case: sum(pair in left for pair in _pairs(case, names)))
        cases.append(best)
        for pair in _pairs(best, names):
            left.pop(pair, None)
    return cases


def _completed(
    chosen: dict[str, Any], factors: Mapping[str, Sequence[Hashable]], left: Mapping, rng: random.Random
) -> dict[str, Any]:
    """A case with the chosen values; the others, in random order, are those that meet most that is new."""
    case, names = dict(chosen), list(factors)
    for name in rng.sample(names, len(names)):
        if name not in case:
            values = rng.sample(list(factors[name]), len(factors[name]))
            case[name] = max(
                values, key=lambda value: sum(pair in left for pair in _pairs(case | {name: value}, names))
            )
    return {name: case[name] for name in names}


def _pairs(case: Mapping[str, Any], names: Sequence[str]) -> list[tuple]:
    given = [name for name in names if name in case]
    return [((a, case[a]), (b, case[b])) for a, b in itertools.combinations(given, 2)]
