"""Guards that hang on the target cosine, which only the rank that owns the class can compute."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ema as running_mean
from ..ops.call import target_cos
from ..recompute import moved_once
from ..rules import Rule, ema_guard
from .ranks import Ranks
from .rows import Batch


def row_guards(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, mining: Rule, ema: Tensor | None, batch: Batch, ranks: Ranks,
    *, training: bool, class_index: Tensor | None, subcenters: int,
) -> Tensor | None:  # fmt: skip
    """The guard of every row of the batch, bit for bit what one process has; None where the rule needs no c_t.

    Args:
        x: [B, D] of all ranks; w: the shard; labels: [B] classes of the shard or -1; offsets: [K+1] of the shard.
        ema: [K], updated in place when `training`, by the global batch and so alike on every rank.
    """
    guard, with_means = mining.guard, ema_guard(mining)
    if guard is None or not (guard.reads_target or guard.needs_means):
        return None
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        cos_t = x.new_zeros(0)
        if training or guard.reads_target:
            # Exactly one rank has another number than 0, so the sum rounds nothing.
            cos_t = target_cos(x, w, labels, offsets, -1, class_index, subcenters)
            ranks.all_reduce(cos_t)
        if with_means is None:
            return guard.rows(cos_t)
        ema = running_mean.given(ema)
        if training:
            (ema,) = moved_once((ema,), (running_mean.updated(ema, cos_t, batch.basket, batch.valid),))
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return running_mean.row_guards(ema.detach(), with_means.r, batch.basket, batch.valid).to(dtype)
