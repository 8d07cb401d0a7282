"""From pairs of classes to identities: joined from the most similar pair on, never two classes of one basket.

Within a basket an identity has one class, so a chain of pairs that would bring two of its classes together is wrong
somewhere; the later, less similar pair is the one that is dropped. (Single linkage with cannot-link constraints.)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Groups:
    """Classes joined so far. Memory: two dictionaries with an entry per joined class.

    Args:
        offsets: [K + 1] int64 on the CPU; basket b owns the classes offsets[b] ... offsets[b + 1] - 1.
        known: [C] int64 aliases that hold in any case, two classes of one basket included; or None.
    """

    def __init__(self, offsets: Tensor, known: Tensor | None = None) -> None:
        self.offsets = offsets
        self._parent: dict[int, int] = {}
        self._baskets: dict[int, int] = {}  # of a root: bit b is set when it has a class of basket b
        if known is not None:
            self._join_known(known)

    def _join_known(self, known: Tensor) -> None:
        classes = torch.nonzero(known >= 0).flatten()
        first: dict[int, int] = {}
        for c, alias, bit in zip(classes.tolist(), known[classes].tolist(), self._bits(classes), strict=True):
            root = first.setdefault(alias, c)
            self._parent[c] = root
            self._baskets[root] = self._baskets.get(root, 0) | bit

    def join(self, first: Tensor, second: Tensor) -> None:
        """Join pairs [P] in the order given, each unless it would bring two classes of one basket together."""
        pairs: Iterable[tuple[int, int, int, int]] = zip(
            first.tolist(), second.tolist(), self._bits(first), self._bits(second), strict=True
        )
        for a, b, bit_a, bit_b in pairs:
            root_a, root_b = self._root(a), self._root(b)
            if root_a == root_b:
                continue
            baskets_a, baskets_b = self._baskets.get(root_a, bit_a), self._baskets.get(root_b, bit_b)
            if baskets_a & baskets_b:
                continue
            self._parent[root_a] = self._parent[root_b] = root_a
            self._baskets[root_a] = baskets_a | baskets_b

    def aliases(self) -> Tensor:
        """[C] int64: the smallest class of each one's group, -1 for a class that is alone."""
        aliases = torch.full((int(self.offsets[-1]),), -1)
        smallest: dict[int, int] = {}
        classes = sorted(self._parent)
        for c in classes:
            smallest.setdefault(self._root(c), c)
        if classes:
            aliases[torch.tensor(classes)] = torch.tensor([smallest[self._root(c)] for c in classes])
        return aliases

    def _root(self, c: int) -> int:
        parent = self._parent.get(c, c)
        while (above := self._parent.get(parent, parent)) != parent:
            self._parent[c] = above  # halve the way for the next one
            c, parent = parent, above
        return parent

    def _bits(self, classes: Tensor) -> list[int]:
        return [1 << b for b in (torch.searchsorted(self.offsets, classes, right=True) - 1).tolist()]
