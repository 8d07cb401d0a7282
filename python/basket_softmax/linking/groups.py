"""From pairs of classes to identities, the most similar pair first, under two conditions.

- Never two classes of one basket: within it an identity has one class, so one of the pairs that lead there is wrong,
  and the less similar one is dropped.
- The mean cosine between the classes of both sides must reach the threshold, not just that of the pair. One false pair
  would otherwise chain two identities together.

(Agglomerative clustering with average linkage and cannot-link constraints, in the order of the pairs.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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
        self._parent: dict[int, int] = {}
        self._of_root: dict[
            int, tuple[int, np.ndarray, int]
        ] = {}  # baskets as bits, sum of unit vectors, size
        if known is not None:
            self._join_known(known)

    def _join_known(self, known: Tensor) -> None:
        classes = torch.nonzero(known >= 0).flatten()
        first: dict[int, int] = {}
        for c, alias, bit in zip(classes.tolist(), known[classes].tolist(), self._bits(classes), strict=True):
            root = first.setdefault(alias, c)
            self._parent[c] = root
            baskets, total, size = self._of_root.get(root, (0, np.zeros_like(self._unit[c]), 0))
            self._of_root[root] = baskets | bit, total + self._unit[c], size + 1

    def join(self, first: Tensor, second: Tensor, minimum: float) -> None:
        """Join pairs [P] in the order given, each if both conditions hold.

        Args:
            first, second: [P] int64 classes.
            minimum: mean cosine between the classes of the two sides.
        """
        pairs = zip(first.tolist(), second.tolist(), self._bits(first), self._bits(second), strict=True)
        for a, b, bit_a, bit_b in pairs:
            root_a, root_b = self._root(a), self._root(b)
            if root_a == root_b:
                continue
            baskets_a, total_a, size_a = self._of_root.get(root_a, (bit_a, self._unit[a], 1))
            baskets_b, total_b, size_b = self._of_root.get(root_b, (bit_b, self._unit[b], 1))
            if baskets_a & baskets_b or float(total_a @ total_b) < minimum * size_a * size_b:
                continue
            self._parent[root_a] = self._parent[root_b] = root_a
            self._of_root.pop(root_b, None)
            self._of_root[root_a] = baskets_a | baskets_b, total_a + total_b, size_a + size_b

    def aliases(self) -> Tensor:
        """[C] int64: the smallest class of each one's group, -1 for a class that is alone."""
        aliases = torch.full((int(self.offsets[-1]),), -1, device="cpu")
        smallest: dict[int, int] = {}
        classes = sorted(self._parent)
        for c in classes:
            smallest.setdefault(self._root(c), c)
        if classes:
            found = [smallest[self._root(c)] for c in classes]
            aliases[torch.tensor(classes, device="cpu")] = torch.tensor(found, device="cpu")
        return aliases

    def _root(self, c: int) -> int:
        parent = self._parent.get(c, c)
        while (above := self._parent.get(parent, parent)) != parent:
            self._parent[c] = above  # halve the way for the next one
            c, parent = parent, above
        return parent

    def _bits(self, classes: Tensor) -> list[int]:
        baskets = torch.searchsorted(self.offsets, classes.contiguous(), right=True) - 1
        return [1 << b for b in baskets.tolist()]
