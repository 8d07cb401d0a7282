"""From accepted pairs to aliases: what a person decided, what a confidence decides, and who is then one person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..matching.disjoint_sets import DisjointSets, aliases_of
from .find import Overlaps
from .names import ClassNames
from .report import PAIR, Path, pair_of, table

COLUMNS = (*PAIR, "decision")
Decision = Literal["accept", "reject"]


def read_decisions(path: Path, names: ClassNames) -> dict[tuple[int, int], bool]:
    """{(class, class): accepted}, the lower class first, from the CSV that the page saves.

    Rows whose decision is empty are skipped; blanks around it and capitals do not count.

    Raises:
        ValueError: a missing column, an unknown class, another decision than accept and reject, or a pair that is
            once accepted and once rejected; the message says in which line.
    """
    decisions: dict[tuple[int, int], bool] = {}
    for line, row in table(path, COLUMNS):
        decision = row["decision"].strip().casefold()
        if not decision:
            continue
        try:
            if decision not in ("accept", "reject"):
                raise ValueError(f"decision: expected accept, reject or nothing, got {row['decision']!r}")
            pair = pair_of(row, names)
            if decisions.setdefault(pair, decision == "accept") != (decision == "accept"):
                raise ValueError("the pair has the other decision in an earlier line")
        except ValueError as error:
            raise ValueError(f"{line}: {error}") from None
    return decisions


@dataclass(frozen=True)
class Persons:
    """aliases: [C] int64, persons from 0 by their first class, -1 for classes that are nobody else.

    by_hand, by_confidence: pairs accepted so. left_out: pairs sure enough that would have joined two classes of one
    basket, or classes that a person told apart. twice: [(class, class)] of one basket that are one person by what a
    person accepted. contradicted: pairs that a person rejected and that are one person all the same, through accepted
    pairs or those known before.
    """

    aliases: Tensor
    by_hand: int
    by_confidence: int
    left_out: int
    twice: list[tuple[int, int]]
    contradicted: list[tuple[int, int]]


def persons(
    offsets: Tensor,
    decisions: dict[tuple[int, int], bool],
    overlaps: Overlaps | None = None,
    accept_above: float | None = None,
    known: Tensor | None = None,
) -> Persons:
    """Join classes to persons: those known before, then accepted ones, then pairs of `overlaps` by confidence.

    A pair that a person decided is never decided by its confidence. By confidence two classes of one basket are never
    joined, nor are two that a person told apart, not through others either: the surer pair stays.

    Args:
        offsets: [K + 1], of the baskets.
        decisions: of `read_decisions`.
        overlaps: pairs with confidences; read when `accept_above` is given.
        accept_above: smallest confidence that is accepted without a person.
        known: [C] int64 aliases from before, or None.
    """
    groups = _Groups(offsets)
    if known is not None:
        first: dict[int, int] = {}
        for c in torch.nonzero(known >= 0).flatten().tolist():
            groups.join(first.setdefault(int(known[c]), c), c)
    accepted = [pair for pair, accept in decisions.items() if accept]
    rejected = [pair for pair, accept in decisions.items() if not accept]
    for pair in accepted:
        groups.join(*pair)
    twice = groups.twice()
    contradicted = [pair for pair in rejected if groups.joined(*pair)]
    groups.keep_apart(rejected)
    by_confidence = left_out = 0
    if overlaps is not None and accept_above is not None:
        sure = overlaps.select(overlaps.confidence >= accept_above)
        for a, b in zip(sure.first.tolist(), sure.second.tolist(), strict=True):
            if (a, b) in decisions:
                continue
            may = groups.may_join(a, b)
            by_confidence, left_out = by_confidence + may, left_out + (not may)
            if may:
                groups.join(a, b)
    return Persons(groups.aliases(), len(accepted), by_confidence, left_out, twice, contradicted)


class _Groups:
    """Classes joined so far, and which may still be."""

    def __init__(self, offsets: Tensor) -> None:
        self._edges = offsets.numpy()
        self._sets = DisjointSets()
        self._apart: dict[int, set[int]] = {}
        self.join, self.joined = self._sets.join, self._sets.joined

    def keep_apart(self, pairs: list[tuple[int, int]]) -> None:
        for a, b in pairs:
            self._apart.setdefault(a, set()).add(b)
            self._apart.setdefault(b, set()).add(a)

    def may_join(self, a: int, b: int) -> bool:
        """No basket would have two classes of the person, and nobody told apart would be one."""
        if self.joined(a, b):
            return True
        here, there = self._sets.members(a), self._sets.members(b)
        if set(self._baskets(here)) & set(self._baskets(there)):
            return False
        return not any(self._apart.get(c, set()).intersection(there) for c in here)

    def twice(self) -> list[tuple[int, int]]:
        """Two classes of one basket for each basket of each set that has more than one."""
        found = []
        for members in self._sets.sets():
            seen: dict[int, int] = {}
            for c, basket in zip(members, self._baskets(members), strict=True):
                if basket in seen:
                    found.append((seen[basket], c))
                seen.setdefault(basket, c)
        return found

    def aliases(self) -> Tensor:
        return aliases_of(int(self._edges[-1]), enumerate(self._sets.sets()))

    def _baskets(self, classes: list[int]) -> list[int]:
        return (np.searchsorted(self._edges, classes, side="right") - 1).tolist()
