"""Few cases in which every two values of two parameters meet, in place of all combinations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any


def pairwise(
    factors: Mapping[str, Sequence[Any]], allowed: Callable[[dict[str, Any]], bool] = lambda case: True
) -> list[dict[str, Any]]:
    """Return cases {name: value}, in a fixed order, that cover each pair of values which some allowed case has."""
    names = list(factors)
    open_pairs = {
        (a, i, b, j)
        for a, b in combinations(names, 2)
        for i, j in product(range(len(factors[a])), range(len(factors[b])))
    }
    cases = []
    for first in sorted(open_pairs):
        if first not in open_pairs:
            continue
        a, i, b, j = first
        best = _fill({a: i, b: j}, names, factors, open_pairs, allowed)
        if best is not None:
            cases.append({name: factors[name][best[name]] for name in names})
            open_pairs -= _pairs(best, names)
        open_pairs.discard(first)
    return cases


def _pairs(chosen: dict[str, int], names: list[str]) -> set[tuple[str, int, str, int]]:
    have = [name for name in names if name in chosen]
    return {(a, chosen[a], b, chosen[b]) for a, b in combinations(have, 2)}


def _fill(chosen: dict[str, int], names: list[str], factors: Any, open_pairs: set, allowed: Any) -> Any:
    """Complete `chosen`, name by name, with the value that covers most; None where no allowed case has this start."""
    missing = [name for name in names if name not in chosen]
    if not missing:
        case = {name: factors[name][index] for name, index in chosen.items()}
        return chosen if allowed(case) else None
    name = missing[0]
    gain = {
        index: len(_pairs({**chosen, name: index}, names) & open_pairs) for index in range(len(factors[name]))
    }
    for index in sorted(gain, key=lambda index: (-gain[index], index)):
        filled = _fill({**chosen, name: index}, names, factors, open_pairs, allowed)
        if filled is not None:
            return filled
    return None
