"""Known identities across shards: the alias of a row whose class is elsewhere, and how many classes have it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from ..functional import basket_of
from .ranks import Ranks


def row_aliases(aliases: Tensor, labels: Tensor, ranks: Ranks) -> Tensor:
    """[B]: alias of each row's class, -1 for none; the rank that owns the class tells the others.

    Args:
        aliases: [rows of the shard]; labels: [B] rows of the shard, -1 for a class elsewhere.
    """
    mine = torch.full_like(labels, -1)
    if len(aliases):
        known = (labels >= 0) & (labels < len(aliases))
        mine = torch.where(known, aliases[torch.where(known, labels, 0)], mine).clamp_min(-1)
    return ranks.all_reduce(mine, dist.ReduceOp.MAX)


def mate_counts(aliases: Tensor, offsets: Tensor, row_alias: Tensor, class_index: Tensor | None) -> Tensor:
    """[B, K]: how many classes of this shard's baskets have the alias of each row.

    Args:
        aliases: [rows of the shard]; offsets: [K+1] on the CPU; class_index: the rows that take part, None for all.
    """
    device, rows, baskets = aliases.device, len(row_alias), len(offsets) - 1
    classes = torch.arange(len(aliases), device=device) if class_index is None else class_index
    basket = basket_of(classes, offsets)
    alias = aliases[classes]
    wanted, order = row_alias.sort()
    # Each alias counts at the first row that has it; one spare place takes the classes that no row asks for.
    at = torch.searchsorted(wanted, alias)
    hit = (at < rows) & (alias >= 0)
    hit &= wanted[at.clamp_max(max(rows - 1, 0))] == alias if rows else False
    flat = torch.where(hit, at * baskets + basket, rows * baskets)
    table = torch.zeros(rows * baskets + 1, dtype=torch.int64, device=device)
    table.index_add_(0, flat, torch.ones_like(flat))
    table = table[:-1].view(rows, baskets)[torch.searchsorted(wanted, wanted)]
    counts = torch.empty_like(table).index_copy_(0, order, table)
    return torch.where(row_alias[:, None] >= 0, counts, 0)
