"""Statistics of the last step from tensors that the step had anyway: computed when asked for, on the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bbs_kernels import functional as core
from bbs_kernels.rules import Rule

from ..baskets import Baskets


class LastStep(NamedTuple):
    """mining: the rule it ran under; labels, losses, cos_t [B]; mined_idx, mined_cos [B, K, k]; all detached.

    With the classes on several ranks the lists are those of the rank's own rows, and mined_totals [B, K + 1] has the
    sums over the lists of every row: the number mined per basket, and their cosines.
    """

    mining: Rule
    labels: Tensor
    losses: Tensor
    cos_t: Tensor
    mined_idx: Tensor
    mined_cos: Tensor
    mined_totals: Tensor | None = None


def summarise(last: LastStep, baskets: Baskets, ignore_index: int, ema: Tensor | None) -> dict[str, Tensor]:
    """The dictionary of `BasketSoftmaxLoss.stats`."""
    mining = last.mining
    valid = last.labels != ignore_index
    basket = core.basket_of(last.labels, baskets.offsets)
    stats = {
        "mean_loss": _mean(last.losses, valid),
        "mean_target_cosine": _mean(last.cos_t, valid),
    }
    if mining.k > 0:
        sizes = torch.tensor(baskets.sizes, device=basket.device)
        foreign = valid[:, None] & (basket[:, None] != torch.arange(len(baskets), device=basket.device))
        slots = (foreign * sizes.clamp_max(mining.k)).sum(0)
        if last.mined_totals is None:
            mined = last.mined_idx >= 0
            stats["mined_share"] = mined.sum((0, 2)) / slots.clamp_min(1)
            stats["mean_mined_cosine"] = _mean(last.mined_cos, mined)
        else:
            *counts, cosines = last.mined_totals.sum(0).unbind()
            mined = torch.stack(counts)
            stats["mined_share"] = mined.to(torch.int64) / slots.clamp_min(1)
            stats["mean_mined_cosine"] = (cosines / mined.sum().clamp_min(1)).to(last.cos_t.dtype)
    guard = mining.guard
    if guard is not None and not guard.needs_means:
        stats["guard"] = guard.rows(stats["mean_target_cosine"])
    elif guard is not None and ema is not None:
        rows = guard.rows(last.cos_t, ema[torch.where(valid, basket, 0)])
        stats["guard"] = _mean(rows, valid & rows.isfinite())
        stats["ema"] = ema.detach().clone()
    return stats


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum().clamp_min(1)
