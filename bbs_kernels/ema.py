"""The `Ema` guard's running mean of the target cosine, one per basket, without synchronisation.

mu_b starts as +inf ("never seen": its guard leaves nothing out), becomes the first batch mean of c_t over
the rows of basket b, then 0.98 * mu_b + 0.02 * mean. A basket without a row keeps its mean. Rows whose c_t
is not finite are left out, so that one broken embedding does not switch a basket's guard to NaN for good.
"""

from __future__ import annotations

import torch
from torch import Tensor

DECAY = 0.98


def given(ema: Tensor | None) -> Tensor:
    """Return `ema`; raise ValueError when it is None where a rule has an `Ema` guard."""
    if ema is None:
        raise ValueError(
            "ema: expected a tensor [K] of running means, since the rule has an Ema guard, got None"
        )
    return ema


def updated(ema: Tensor, cos_t: Tensor, basket: Tensor, valid: Tensor) -> Tensor:
    """The running means after one batch.

    Args:
        ema: [K] running means, +inf where a basket was never seen.
        cos_t: [B] target cosines.
        basket: [B] int64, basket of each row; read only where `valid`.
        valid: [B] bool, False at ignored rows.

    Returns:
        [K], dtype of `ema`; the input is not changed.
    """
    used = valid & cos_t.isfinite()
    # Rows and baskets as a [K, B] mask and not index_add, whose atomics on a GPU add in any order.
    member = used & (basket == torch.arange(len(ema), device=basket.device)[:, None])
    counts = member.sum(dim=1)
    mean = torch.where(member, cos_t.to(ema.dtype), 0.0).sum(dim=1) / counts.clamp_min(1)
    blended = torch.where(ema.isposinf(), mean, DECAY * ema + (1.0 - DECAY) * mean)
    return torch.where(counts > 0, blended, ema)


def row_guards(ema: Tensor, r: float, basket: Tensor, valid: Tensor) -> Tensor:
    """g_i = r * mu of the row's basket, [B]; +inf at ignored rows, which read nothing."""
    mu = ema[torch.where(valid, basket, 0)]
    return torch.where(valid, r * mu, torch.inf)
