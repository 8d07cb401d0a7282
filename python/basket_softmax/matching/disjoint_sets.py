"""Disjoint sets of classes: who was joined to whom."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class DisjointSets:
    """Sets of classes that are merged in pairs; a class that was never joined is a set of its own.

    A merge moves the members of the smaller set, so that n merges move at most n log n of them.
    """

    def __init__(self) -> None:
        self._root: dict[int, int] = {}
        self._members: dict[int, list[int]] = {}  # of each set that was joined, by its root

    def root(self, c: int) -> int:
        """Return the class that stands for the set of `c`; a later `join` may choose another one."""
        return self._root.get(c, c)

    def members(self, c: int) -> list[int]:
        """Return the classes of the set of `c`, `c` included, in no order."""
        return self._members.get(self.root(c), [c])

    def joined(self, a: int, b: int) -> bool:
        """Return whether two classes are in one set."""
        return self.root(a) == self.root(b)

    def join(self, a: int, b: int) -> int:
        """Merge the sets of two classes, which may be one; return the root of the result."""
        root, other = self.root(a), self.root(b)
        if root != other:
            if len(self.members(root)) < len(self.members(other)):
                root, other = other, root
            moved = self._members.pop(other, [other])
            self._members.setdefault(root, [root]).extend(moved)
            self._root.update((c, root) for c in (*moved, root))
        return root

    def sets(self) -> list[list[int]]:
        """Return the sets of two classes or more, each sorted, by their smallest class."""
        return sorted(sorted(members) for members in self._members.values())


def aliases_of(classes: int, groups: Iterable[tuple[int, list[int]]]) -> Tensor:
    """Return [classes] int64 on the CPU: the number of each class's group, -1 for a class in none.

    Args:
        groups: (number, members).
    """
    aliases = torch.full((classes,), -1, dtype=torch.int64, device="cpu")
    for number, members in groups:
        aliases[torch.tensor(members, device="cpu")] = number
    return aliases
