"""Centres of all classes and the part of a rank: drawing, cutting, putting together."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from .ranks import Ranks
from .shard import ClassShard

_BLOCK = 1 << 22  # numbers drawn at once


def own_part(full: Tensor, shard: ClassShard) -> Tensor:
    """[C, …] of all classes → the rows of the shard."""
    return torch.cat([full[start:stop] for start, stop in shard.sharding.ranges(shard.rank)])


def full_rows(own: Tensor, shard: ClassShard, ranks: Ranks) -> Tensor:
    """The rows of every shard put together, [C, …], on every rank; every rank must call it."""
    full = own.new_empty((shard.num_classes, *own.shape[1:]))
    for source in range(ranks.world):
        sharding = shard.sharding
        rows = own if source == ranks.rank else own.new_empty((sharding.num_local(source), *own.shape[1:]))
        ranks.broadcast(rows.contiguous(), source)
        for (start, stop), at in zip(sharding.ranges(source), sharding.local_offsets(source), strict=False):
            full[start:stop] = rows[at : at + stop - start]
    return full


@torch.no_grad()
def draw_shard(weight: Tensor, shard: ClassShard, std: float) -> None:
    """Fill `weight`, a shard, with N(0, std): the rows that one process would draw for all classes on the CPU.

    The numbers of all classes are drawn, block by block, so that every rank's generator moves on alike. The same seed
    on every rank gives the same centres at every world size.
    """
    ranges = list(zip(shard.sharding.ranges(shard.rank), shard.offsets.tolist(), strict=False))
    draw_rows(weight, ranges, shard.num_classes, std)


@torch.no_grad()
def draw_rows(rows: Tensor, ranges: list[tuple[tuple[int, int], int]], total: int, std: float) -> None:
    """As `draw_shard` for `total` rows, of which `ranges` names those to keep: ((start, stop), place in `rows`)."""
    depth = rows.shape[1]
    # torch draws a large tensor 16 numbers at a time and the end of it anew: whole sixteens, and no short last block.
    block = 16 * max(_BLOCK // (16 * depth), 1)
    edges = [*range(0, total, block), total]
    if len(edges) > 2 and edges[-1] - edges[-2] < 16:
        edges.pop(-2)
    for first, last in pairwise(edges):
        drawn = torch.empty((last - first, depth), dtype=rows.dtype, device="cpu").normal_(std=std)
        for (start, stop), at in ranges:
            low, high = max(start, first), min(stop, last)
            if low < high:
                rows[at + low - start : at + high - start] = drawn[low - first : high - first].to(rows.device)
