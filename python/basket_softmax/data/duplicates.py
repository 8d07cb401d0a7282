"""Images with the same bytes, within and across baskets, from their hashes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from .basket import ImageBasket

SAME_IDENTITY, ACROSS_BASKETS, TWO_IDENTITIES = range(3)


@dataclass(frozen=True, eq=False)
class Duplicates:
    """G groups of equal images.

    basket, image: [M] int64, the members, group after group: index of the basket and of the image in it.
    start: [G + 1] int64, group g has the members start[g] … start[g+1]-1, at least two.
    kind: [G] int64. `TWO_IDENTITIES`: one basket has it under two identities, so one of its labels is wrong;
        otherwise `ACROSS_BASKETS`: several baskets have it; otherwise `SAME_IDENTITY`.
    """

    basket: np.ndarray
    image: np.ndarray
    start: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    def groups(self, kind: int) -> Iterator[list[tuple[int, int]]]:
        """The groups of that kind as lists of (basket, image)."""
        for g in np.flatnonzero(self.kind == kind):
            part = slice(self.start[g], self.start[g + 1])
            yield list(zip(self.basket[part].tolist(), self.image[part].tolist(), strict=True))


def find_duplicates(baskets: Sequence[ImageBasket], digests: np.ndarray, readable: np.ndarray) -> Duplicates:
    """Groups of readable images with equal digests.

    Args:
        baskets: their N images in this order.
        digests: [N, 2] uint64, 128 bits of a hash: N = 10^9 images have an accidental pair with probability 1e-21.
        readable: [N] bool.
    """
    offsets = np.array([0, *accumulate(len(basket) for basket in baskets)])
    members = np.flatnonzero(readable)
    members = members[np.lexsort((digests[members, 1], digests[members, 0]))]
    equal = (digests[members[1:]] == digests[members[:-1]]).all(axis=1)
    group = np.r_[0, np.cumsum(~equal)] if len(members) else members
    shared = np.bincount(group)[group] > 1 if len(members) else np.zeros(0, bool)
    members, group = members[shared], np.unique(group[shared], return_inverse=True)[1]
    start = np.searchsorted(group, np.arange((group[-1] + 1 if len(group) else 0) + 1))
    basket = np.searchsorted(offsets, members, side="right") - 1
    image = members - offsets[basket]
    label = np.concatenate([b.labels for b in baskets])[members]
    return Duplicates(basket, image, start, _kinds(group, basket, label, len(start) - 1))


def _kinds(group: np.ndarray, basket: np.ndarray, label: np.ndarray, groups: int) -> np.ndarray:
    """Neighbours in the order of (group, basket, label) tell: other basket, or same basket and other label."""
    order = np.lexsort((label, basket, group))
    group, basket, label = group[order], basket[order], label[order]
    together = group[1:] == group[:-1]
    moved = basket[1:] != basket[:-1]
    kind = np.full(groups, SAME_IDENTITY)
    kind[group[1:][together & moved]] = ACROSS_BASKETS
    kind[group[1:][together & ~moved & (label[1:] != label[:-1])]] = TWO_IDENTITIES
    return kind
