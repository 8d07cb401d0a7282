"""Pairs of classes that are each other's nearest neighbour, across baskets or within: exact, in tiles, never C x C.

A fast screen with a proven error bound only leaves out pairs that cannot be nearest (cosines.py, nearest.py); the rest
is computed in fp64 and compared as fp32. Among equal cosines the lowest class index is nearest. So the result does not
depend on threads, tiles or the screen. Memory: one copy of the centres in bfloat16 (or fp32), and 100 MB for a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from bbs_kernels.validate import positive_int

from ..baskets import Baskets
from .cosines import Cosines, with_direction
from .nearest import Nearest
from .scan import Scan


class MutualPairs(NamedTuple):
    """first, second: [P] int64 global classes, first < second; cosine: [P] fp32. Larger cosines come first."""

    first: Tensor
    second: Tensor
    cosine: Tensor


@torch.no_grad()
def mutual_nearest(
    centres: Tensor,
    baskets: Baskets | Tensor | Sequence[int],
    *,
    per_basket: bool = True,
    minimum: float = -1.0,
    subcenters: int = 1,
    progress: Callable[[int], None] | None = None,
) -> MutualPairs:
    """Classes of different baskets that are each other's nearest neighbour by cosine; exact.

    Args:
        centres: [C, D], any floating dtype, on the CPU; prototypes or class centres, of any norm. A row with a norm
            below 1e-12 has no direction and takes no part.
        baskets: which basket each class belongs to, a `Baskets` or its offsets [K + 1].
        per_basket: True: nearest within each other basket, so a class may be in a pair with every other basket.
            False: nearest over all other baskets together, so a class is in one pair at most.
        minimum: pairs with a smaller cosine are left out, which also saves time.
        subcenters: r: `centres` is [C*r, D], r adjacent rows for each class, and the cosine of two classes is the
            largest among their rows.
        progress: called with the number of pairs of centres done since the last call; they add up to
            `comparisons(baskets)` times r*r (less where centres have no direction).

    Returns:
        MutualPairs, ordered by falling cosine, then by class.

    Raises:
        TypeError: `centres` is not a floating tensor.
        ValueError: not [C*r, D] on the CPU, a value that is not finite, offsets that do not fit, `minimum` outside
            [-1, 1], `subcenters` below 1.
    """
    if per_basket:
        found = neighbours(centres, baskets, minimum=minimum, subcenters=subcenters, progress=progress)
        return joined(one.pairs for one in found)
    kept, cosines, parts = _prepare(centres, baskets, minimum, subcenters)
    scan = Scan(cosines, kept // subcenters, progress)
    nearest = Nearest(len(kept), minimum)
    for a in parts:
        b = slice(a.stop, len(kept))
        scan(a, b, nearest[a], nearest[b])
    everybody = slice(0, len(kept))
    if subcenters > 1:
        classes = torch.arange(len(centres) // subcenters)
        nearest = _of_classes(nearest, everybody, kept // subcenters, slice(0, len(classes)), minimum)
        kept, everybody = classes, slice(0, len(classes))
    return joined([_found((0, 0), kept, everybody, nearest, everybody, nearest).pairs])


@torch.no_grad()
def mutual_nearest_within(
    centres: Tensor,
    baskets: Baskets | Tensor | Sequence[int],
    *,
    minimum: float = -1.0,
    subcenters: int = 1,
    progress: Callable[[int], None] | None = None,
) -> MutualPairs:
    """The same within each basket: classes of one basket that are each other's nearest of that basket.

    A basket's own labels are trusted, so these are different identities: what chance makes of a nearest neighbour.
    Arguments, result and errors as for `mutual_nearest`; progress adds up to the pairs of centres within the baskets.
    """
    found = neighbours(
        centres, baskets, within=True, minimum=minimum, subcenters=subcenters, progress=progress
    )
    return joined(one.pairs for one in found)


class Neighbours(NamedTuple):
    """What a search found between two baskets, or within one.

    baskets: (a, b), a == b within one. pairs: the mutual ones.
    alone: [m] fp32 cosines of the other classes of both baskets to their nearest, which has a nearer one itself.
    among: [m] int64, of how many classes it is the nearest.
    """

    baskets: tuple[int, int]
    pairs: MutualPairs
    alone: Tensor
    among: Tensor


@torch.no_grad()
def neighbours(
    centres: Tensor,
    baskets: Baskets | Tensor | Sequence[int],
    *,
    within: bool = False,
    minimum: float = -1.0,
    subcenters: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Neighbours]:
    """The search behind `mutual_nearest` and `mutual_nearest_within`, one pair of baskets after another."""
    kept, cosines, parts = _prepare(centres, baskets, minimum, subcenters)
    edges, class_of = offsets_of(baskets), kept // subcenters
    scan = Scan(cosines, class_of, progress)
    classes = torch.arange(edges[-1])
    numbered = list(enumerate(parts))
    for (i, a), (j, b) in zip(numbered, numbered, strict=True) if within else combinations(numbered, 2):
        of_a = Nearest(a.stop - a.start, minimum)
        of_b = of_a if within else Nearest(b.stop - b.start, minimum)
        scan(a, b, of_a, of_b)
        if subcenters == 1:
            yield _found((i, j), kept, a, of_a, b, of_b)
        else:
            one, other = (slice(*edges[at : at + 2]) for at in (i, j))
            of_one = _of_classes(of_a, a, class_of, one, minimum)
            of_other = of_one if within else _of_classes(of_b, b, class_of, other, minimum)
            yield _found((i, j), classes, one, of_one, other, of_other)


def comparisons(baskets: Baskets | Tensor | Sequence[int], *, within: bool = False) -> int:
    """Pairs of classes of different baskets, or `within` the same ones: what a search compares."""
    offsets = offsets_of(baskets)
    if within:
        return sum((b - a) * (b - a - 1) // 2 for a, b in pairwise(offsets))
    return sum((b - a) * (offsets[-1] - b) for a, b in pairwise(offsets))


def _prepare(
    centres: Tensor, baskets: Baskets | Tensor | Sequence[int], minimum: float, subcenters: int
) -> tuple[Tensor, Cosines, list[slice]]:
    """Centres that have a direction [n], the cosines among them, and which of the n each basket has."""
    subcenters = positive_int("subcenters", subcenters)
    offsets = [subcenters * edge for edge in offsets_of(baskets)]
    if not isinstance(centres, Tensor) or not centres.is_floating_point():
        kind = centres.dtype if isinstance(centres, Tensor) else type(centres).__name__
        raise TypeError(f"centres: expected a floating tensor [C, D], got {kind}")
    if centres.dim() != 2 or len(centres) != offsets[-1] or centres.device.type != "cpu":
        raise ValueError(
            f"centres: expected shape [{offsets[-1]}, D] on the CPU, got {tuple(centres.shape)} on {centres.device}"
        )
    if not -1 <= minimum <= 1:
        raise ValueError(f"minimum: expected a cosine in [-1, 1], got {minimum}")
    valid = with_direction(centres)
    kept = torch.nonzero(valid).flatten()
    before = torch.cat((torch.zeros(1, dtype=torch.int64), valid.long().cumsum(0)))[offsets].tolist()
    rows = centres.detach() if len(kept) == len(centres) else centres.detach()[kept]
    return kept, Cosines(rows), [slice(a, b) for a, b in pairwise(before)]


def offsets_of(baskets: Baskets | Tensor | Sequence[int]) -> list[int]:
    """[K + 1] ints from 0 to C; a ValueError for anything else."""
    if isinstance(baskets, Baskets):
        baskets = baskets.offsets
    offsets = [int(edge) for edge in (baskets.tolist() if isinstance(baskets, Tensor) else baskets)]
    if len(offsets) < 2 or offsets[0] != 0 or sorted(offsets) != offsets:
        raise ValueError(f"baskets: expected offsets that rise from 0 to C, got {offsets}")
    return offsets


def _found(
    baskets: tuple[int, int], kept: Tensor, a: slice, of_a: Nearest, b: slice, of_b: Nearest
) -> Neighbours:
    """The same table on both sides, with `a` equal to `b`: each pair once."""
    here, there = _mutual(of_a.index - b.start, of_b.index - a.start), of_a.index
    both = [(of_a, here, b)] if of_a is of_b else [(of_a, here, b), (of_b, there[here] - b.start, a)]
    alone, among = [], []
    for nearest, paired, others in both:
        lonely = nearest.index >= 0
        lonely[paired] = False
        alone.append(nearest.cosine[lonely].float())
        size = others.stop - others.start - (of_a is of_b)
        among.append(torch.full((len(alone[-1]),), size))
    if of_a is of_b:
        here = here[here + a.start < there[here]]
    pairs = MutualPairs(kept[here + a.start], kept[there[here]], of_a.cosine[here].float())
    return Neighbours(baskets, pairs, torch.cat(alone), torch.cat(among))


def _of_classes(nearest: Nearest, rows: slice, class_of: Tensor, classes: slice, minimum: float) -> Nearest:
    """The nearest classes of `classes`, from the nearest centres of their centres `rows`."""
    found = nearest.index >= 0
    best = Nearest(classes.stop - classes.start, minimum)
    mine = class_of[rows][found] - classes.start
    best.offer(mine, class_of[nearest.index[found]], nearest.cosine[found])
    return best


def _mutual(of_a: Tensor, of_b: Tensor) -> Tensor:
    """Positions i with of_b[of_a[i]] == i; a negative value is nobody."""
    i = torch.nonzero(of_a >= 0).flatten()
    return i[of_b[of_a[i]] == i]


def joined(found: Iterable[MutualPairs]) -> MutualPairs:
    """All pairs of several searches, by falling cosine, then by class."""
    nothing = (torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), torch.empty(0))
    first, second, cosine = (torch.cat(part) for part in zip(nothing, *found, strict=True))
    order = torch.argsort(second, stable=True)
    order = order[torch.argsort(first[order], stable=True)]
    order = order[torch.argsort(cosine[order], descending=True, stable=True)]
    return MutualPairs(first[order], second[order], cosine[order])
