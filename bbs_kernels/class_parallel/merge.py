"""From what every shard found for a row to what the row has: done once, by the rank that owns the row.

Candidates and partial sums of a row come home by all-to-all; its owner selects and adds up, and one all-gather tells
everybody lse, c_t and two boundary keys per basket, from which each rank knows which of its classes were selected.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import candidates
from .ranks import Ranks
from .rows import Batch
from .shard import ClassShard


class Found(NamedTuple):
    """What the kernel found in one shard: lse, cos_t [B]; mined_idx, mined_cos [B, K, n], rows of w.

    mates: [B, K], classes of the shard with the row's alias; None where nothing is known or nothing is skipped.
    mined_classes: [B, K, n], the classes of the shard that mined_idx are rows of.
    """

    lse: Tensor
    cos_t: Tensor
    mined_idx: Tensor
    mined_cos: Tensor
    mates: Tensor | None
    mined_classes: Tensor


class Merged(NamedTuple):
    """lse, cos_t [B], the same bits on every rank. kept [B, K, n]: the shard's mined_idx, -1 where not selected.

    mined_idx, mined_cos [b, K, k]: global classes of the rank's own rows. totals [B, K + 1] fp64: classes selected per
    basket, and the sum of their cosines.
    """

    lse: Tensor
    cos_t: Tensor
    kept: Tensor
    mined_idx: Tensor
    mined_cos: Tensor
    totals: Tensor


def merge(
    found: Found, shard: ClassShard, batch: Batch, ranks: Ranks, *, scale: float, k: int, skip: int
) -> Merged:
    """The rows of all ranks from what all shards found; `k` and `skip` are the rule's, 0 for rules without lists."""
    dtype, baskets = found.lse.dtype, found.mined_idx.shape[1]
    mines = k > 0
    if mines:
        keys = candidates.make_keys(found.mined_cos, shard.global_index(found.mined_classes))
        on_their_way = ranks.send_rows_home(keys, batch.counts)
    # Meanwhile the small message, and the sum over the own basket.
    parts = ranks.send_rows_home(torch.stack([found.lse, found.cos_t], dim=1), batch.counts).wait().double()
    terms, cos_t = [parts[:, :, 0].t()], parts[:, :, 1].sum(0)
    mates = None
    if mines and found.mates is not None:
        mates = ranks.send_rows_home(found.mates, batch.counts).wait().sum(0)
    broken = terms[0].isnan().any(dim=1)

    rows = parts.shape[1]
    message = []
    mined_idx = found.mined_idx.new_full((rows, baskets, k), -1)
    mined_cos = found.mined_cos.new_zeros((rows, baskets, k))
    if mines:
        offered = on_their_way.wait().permute(1, 2, 0, 3, 4).flatten(2, 3)  # [b, K, world * n, words]
        left_out = offered.new_full((rows, baskets), skip)
        if mates is not None:
            left_out = (left_out - mates).clamp_min(0)
        chosen = candidates.select(offered, left_out, k, skip, dtype)
        mined_idx = torch.where(broken[:, None, None], -1, chosen.classes)
        mined_cos = torch.where(mined_idx < 0, 0.0, chosen.cos)
        terms.append(torch.where(mined_idx < 0, -torch.inf, scale * mined_cos.double()).flatten(1))
        message += [chosen.first.flatten(1), chosen.last.flatten(1)]
    lse = torch.logsumexp(torch.cat(terms, dim=1), dim=1)
    totals = torch.cat([(mined_idx >= 0).sum(2), mined_cos.double().sum((1, 2))[:, None]], dim=1)
    numbers = torch.cat([lse[:, None], cos_t[:, None], totals], dim=1)
    message.append(numbers.contiguous().view(torch.int64))

    every = ranks.gather_rows(torch.cat(message, dim=1), batch.counts)
    edge = baskets * keys.shape[-1] if mines else 0
    every_number = every[:, 2 * edge :].contiguous().view(torch.float64)
    lse, cos_t = every_number[:, 0].to(dtype), every_number[:, 1].to(dtype)
    kept = found.mined_idx
    if mines:
        first, last = (every[:, n * edge : (n + 1) * edge].unflatten(1, (baskets, -1)) for n in (0, 1))
        chosen_here = candidates.between(keys, first, last) & ~lse.isnan()[:, None, None]
        kept = torch.where(chosen_here, kept, -1)
    return Merged(lse, cos_t, kept, mined_idx, mined_cos, every_number[:, 2:])
