"""Rows of a live tensor moved from one `Sharding` to another, between the ranks that hold them, without a full copy."""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from ..sharding import Sharding, conversion


def exchange(
    rows: Tensor, old: Sharding, new: Sharding, rank: int, group: dist.ProcessGroup | None = None
) -> Tensor:
    """This rank's rows under `new`, from every rank's rows under `old`; all ranks of `group` call it.

    Args:
        rows: [old.num_local(rank), ...], any dtype: bits are moved, nothing is computed.
        old, new: layouts over the same ranks; `new` may have further baskets at the end.
        group: None: one process.

    Returns:
        [new.num_local(rank), ...]; the rows of further baskets are zero.

    Raises:
        ValueError: the layouts have different numbers of ranks, or `new` does not begin with the baskets of `old`.
    """
    if old.world != new.world:
        raise ValueError(f"new: expected as many ranks as old, {old.world}, got {new.world}")
    copies = conversion(old, new)
    out = rows.new_zeros((new.num_local(rank), *rows.shape[1:]))
    leaving = [c for c in copies if c.source_rank == rank and c.target_rank != rank]
    coming = [c for c in copies if c.target_rank == rank and c.source_rank != rank]
    for c in copies:
        if c.source_rank == c.target_rank == rank:
            out[c.target_start : c.target_start + c.length] = rows[c.source_start : c.source_start + c.length]
    if all(c.source_rank == c.target_rank for c in copies):  # known to every rank, so nobody waits
        return out
    width = rows.element_size() * math.prod(rows.shape[1:])
    # Both lists ascend by class, and ranks by number: what one rank packs, another unpacks in the same order.
    leaving.sort(key=lambda c: c.target_rank)
    coming.sort(key=lambda c: c.source_rank)
    packed = torch.cat(
        [_bytes(rows[c.source_start : c.source_start + c.length]) for c in leaving] or [_bytes(rows[:0])]
    )
    arrived = packed.new_empty(sum(c.length for c in coming) * width)
    sizes_out, sizes_in = [0] * old.world, [0] * old.world
    for c in leaving:
        sizes_out[c.target_rank] += c.length * width
    for c in coming:
        sizes_in[c.source_rank] += c.length * width
    dist.all_to_all_single(arrived, packed, sizes_in, sizes_out, group=group)
    at = 0
    for c in coming:
        part = arrived[at : at + c.length * width].view(rows.dtype)
        out[c.target_start : c.target_start + c.length] = part.view(c.length, *rows.shape[1:])
        at += c.length * width
    return out


def _bytes(rows: Tensor) -> Tensor:
    return rows.contiguous().view(-1).view(torch.uint8)
