"""From pairs of classes to identities, the most similar pair first, under two conditions.

- Never two classes of one basket: within it an identity has one class, so one of the pairs that lead there is wrong,
  and the less similar one is dropped.
- The mean cosine between the classes of both sides must reach the threshold, not just that of the pair. One false pair
  would otherwise chain two identities together.

(Agglomerative clustering with average linkage and cannot-link constraints, in the order of the pairs.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .disjoint_sets import DisjointSets, aliases_of


class _Side(NamedTuple):
    """A set of classes. baskets: bits. total [D]: the sum of the unit vectors."""

    baskets: int
    total: np.ndarray
    size: int


class Groups:
    """Classes joined so far.

    Args:
        offsets: [K + 1] int64 on the CPU; basket b owns the classes offsets[b] ... offsets[b + 1] - 1.
        directions: [C, D] of the classes, any norm, on the CPU.
        known: [C] int64 aliases that hold in any case, two classes of one basket included; or None.

    Memory: beside the arguments a row of D numbers and a few words for each joined class.
    """

    def __init__(self, offsets: Tensor, directions: Tensor, known: Tensor | None = None) -> None:
        self.offsets = offsets
        norms = torch.linalg.vector_norm(directions, dim=1, keepdim=True)
        self._unit = torch.where(norms > 0, directions / norms, 0.0).numpy()
        self._sets = DisjointSets()
        self._of_root: dict[int, _Side] = {}
        if known is not None:
            self._join_known(known)

    def _join_known(self, known: Tensor) -> None:
        classes = torch.nonzero(known >= 0).flatten()
        first: dict[int, int] = {}
        for c, alias, bit in zip(classes.tolist(), known[classes].tolist(), self._bits(classes), strict=True):
            before = first.setdefault(alias, c)
            if before == c:
                self._of_root[c] = _Side(bit, self._unit[c], 1)
            else:
                self._merge(before, c, self._side(before, 0), self._side(c, bit))

    def join(self, first: Tensor, second: Tensor, minimum: float) -> None:
        """Join pairs [P] in the order given, each if both conditions hold.

        Args:
            first, second: [P] int64 classes.
            minimum: mean cosine between the classes of the two sides.
        """
        pairs = zip(first.tolist(), second.tolist(), self._bits(first), self._bits(second), strict=True)
        for a, b, bit_a, bit_b in pairs:
            if self._sets.joined(a, b):
                continue
            one, other = self._side(a, bit_a), self._side(b, bit_b)
            if (
                one.baskets & other.baskets
                or float(one.total @ other.total) < minimum * one.size * other.size
            ):
                continue
            self._merge(a, b, one, other)

    def aliases(self) -> Tensor:
        """[C] int64: the smallest class of each one's group, -1 for a class that is alone."""
        groups = ((members[0], members) for members in self._sets.sets())
        return aliases_of(int(self.offsets[-1]), groups)

    def _side(self, c: int, bit: int) -> _Side:
        """Return the set of `c`, whose basket is `bit`."""
        return self._of_root.get(self._sets.root(c)) or _Side(bit, self._unit[c], 1)

    def _merge(self, a: int, b: int, one: _Side, other: _Side) -> None:
        for c in (a, b):
            self._of_root.pop(self._sets.root(c), None)
        self._of_root[self._sets.join(a, b)] = _Side(
            one.baskets | other.baskets, one.total + other.total, one.size + other.size
        )

    def _bits(self, classes: Tensor) -> list[int]:
        baskets = torch.searchsorted(self.offsets, classes.contiguous(), right=True) - 1
        return [1 << b for b in baskets.tolist()]
