"""Which rank owns which classes when the centres are spread over ranks. Integers only: no tensor, no process group.

A rank owns one range of every basket (kind "basket": work stays even when a batch comes from few baskets) or one
range of all classes (kind "contiguous"). Both cut as torch.chunk does: ceil(n / world) each, the last ones less or
nothing. A rank stores its ranges one after the other in the order of the baskets, so that local order is global order
and ties between equal cosines go the same way as in one process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

KINDS = ("basket", "contiguous")


class Piece(NamedTuple):
    """Classes start ... start + length - 1 (global) of `basket`, which `rank` stores from its local row `local` on."""

    start: int
    length: int
    basket: int
    rank: int
    local: int


class Copy(NamedTuple):
    """`length` rows from `source_start` of the old shard of `source_rank` to `target_start` of the new one's."""

    source_rank: int
    source_start: int
    target_rank: int
    target_start: int
    length: int


@dataclass(frozen=True)
class Sharding:
    """The classes of `sizes` baskets, side by side, over `world` ranks.

    Args:
        sizes: classes of each basket, K >= 1 numbers >= 0.
        world: number of ranks, >= 1; ranks may outnumber classes.
        kind: "basket": of each basket ceil(size / world) classes per rank. Basket b starts at rank b mod world, or the
            remainders of many small baskets would all lie on the first ranks. "contiguous": ceil(C / world) classes.

    Raises:
        ValueError: an argument is not of these.
    """

    sizes: tuple[int, ...]
    world: int
    kind: str = "basket"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if not self.sizes or min(self.sizes) < 0:
            raise ValueError(f"sizes: expected at least one size, each >= 0, got {self.sizes}")
        if self.world < 1:
            raise ValueError(f"world: expected a number of ranks from 1, got {self.world}")
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected {' or '.join(map(repr, KINDS))}, got {self.kind!r}")

    @property
    def num_classes(self) -> int:
        """C, the classes of all baskets on all ranks."""
        return sum(self.sizes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """[K + 1]: basket b owns the global classes offsets[b] ... offsets[b + 1] - 1."""
        return (0, *accumulate(self.sizes))

    @property
    def chunks(self) -> tuple[int, ...]:
        """[K]: classes of a full range, >= 1: class p of basket b lies in slot p // chunks[b] (kind "basket"),
        global class c on rank c // chunks[b] (kind "contiguous", the same for every b)."""
        if self.kind == "contiguous":
            return (_chunk(self.num_classes, self.world),) * len(self.sizes)
        return tuple(_chunk(size, self.world) for size in self.sizes)

    def ranges(self, rank: int) -> tuple[tuple[int, int], ...]:
        """K half-open ranges (start, stop) of global classes that `rank` owns, one per basket; empty: start == stop."""
        if not 0 <= rank < self.world:
            raise ValueError(f"rank: expected 0 to {self.world - 1}, got {rank}")
        found = []
        for b, (first, size, chunk) in enumerate(zip(self.offsets, self.sizes, self.chunks, strict=False)):
            start = (rank - b) % self.world * chunk if self.kind == "basket" else rank * chunk - first
            clipped = min(max(start, 0), size)
            found.append((first + clipped, first + min(max(start + chunk, 0), size)))
        return tuple(found)

    def local_offsets(self, rank: int) -> tuple[int, ...]:
        """[K + 1]: the rows of basket b in the shard of `rank` are local_offsets[b] ... local_offsets[b + 1] - 1."""
        return (0, *accumulate(stop - start for start, stop in self.ranges(rank)))

    def num_local(self, rank: int) -> int:
        """Rows of the shard of `rank`."""
        return sum(stop - start for start, stop in self.ranges(rank))

    def to_local(self, index: int) -> tuple[int, int]:
        """(rank, row of its shard) of a global class."""
        if not 0 <= index < self.num_classes:
            raise ValueError(f"index: expected 0 to {self.num_classes - 1}, got {index}")
        offsets = self.offsets
        b = bisect_right(offsets, index) - 1
        if self.kind == "contiguous":
            rank = index // self.chunks[b]
        else:
            rank = ((index - offsets[b]) // self.chunks[b] + b) % self.world
        return rank, self.local_offsets(rank)[b] + index - self.ranges(rank)[b][0]

    def to_global(self, rank: int, local: int) -> int:
        """The global class of row `local` of the shard of `rank`."""
        edges = self.local_offsets(rank)
        if not 0 <= local < edges[-1]:
            raise ValueError(f"local: expected rows 0 to {edges[-1] - 1} of rank {rank}, got {local}")
        b = bisect_right(edges, local) - 1
        return self.ranges(rank)[b][0] + local - edges[b]

    def pieces(self) -> Iterator[Piece]:
        """Every non-empty range of every rank, by ascending class; together they are all classes, once."""
        found = [
            Piece(start, stop - start, b, rank, local)
            for rank in range(self.world)
            for b, ((start, stop), local) in enumerate(
                zip(self.ranges(rank), self.local_offsets(rank), strict=False)
            )
            if stop > start
        ]
        return iter(sorted(found))


def conversion(old: Sharding, new: Sharding) -> list[Copy]:
    """The copies that turn the shards of `old` into those of `new`, by ascending class.

    `new` may have further baskets at the end, whose rows no copy touches; every other row is written once.

    Raises:
        ValueError: `new` does not begin with the baskets of `old`.
    """
    if new.sizes[: len(old.sizes)] != old.sizes:
        raise ValueError(f"new: expected the sizes of old, {old.sizes}, at least, got {new.sizes}")
    copies = []
    sources, targets = old.pieces(), new.pieces()
    source, target = next(sources, None), next(targets, None)
    while source is not None and target is not None:
        start = max(source.start, target.start)
        source_stop, target_stop = source.start + source.length, target.start + target.length
        copies.append(
            Copy(
                source.rank,
                source.local + start - source.start,
                target.rank,
                target.local + start - target.start,
                min(source_stop, target_stop) - start,
            )
        )
        if source_stop <= target_stop:
            source = next(sources, None)
        if target_stop <= source_stop:
            target = next(targets, None)
    return copies


def _chunk(size: int, world: int) -> int:
    return max(-(-size // world), 1)
