"""The same loss in plain PyTorch, written as a competent user would: the baseline of the benchmarks.

It holds the B x C cosines of what the rule reads, takes log-sum-exp over each row's negatives and applies
the margin to the target; `own` multiplies each head with its own rows only. Products are in the precision of the
embeddings and everything else in that of the centres, as under autocast.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bbs_kernels.rules import Absolute, All, Below, Own, Rule, TopK


def product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a @ b.t() of a [n, D] and b [m, D] in `dtype`, back in the precision of b: [n, m]."""
    return (a.to(dtype) @ b.to(dtype).t()).to(b.dtype)


def basket_arcface(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, *, margin: float, scale: float, mining: Rule
) -> Tensor:
    """Mean ArcFace loss over baskets: x [B, D], w [C, D], labels [B] global; `margin` in radians.

    No special case where theta + margin passes pi: on the cases timed here no target is that far away.

    Raises:
        ValueError: a guard other than `Absolute`, or a guard with `TopK`.
    """
    edges = offsets.tolist()
    x_hat, w_hat = F.normalize(x.to(w.dtype)), F.normalize(w)
    home = torch.bucketize(labels, offsets[1:].to(labels.device), right=True)
    full = None if isinstance(mining, Own) else product(x_hat, w_hat, x.dtype)
    losses = []
    for basket in range(len(edges) - 1):
        rows = (home == basket).nonzero().flatten()
        if len(rows) == 0:
            continue
        own_classes = slice(edges[basket], edges[basket + 1])
        cos = product(x_hat[rows], w_hat[own_classes], x.dtype) if full is None else full[rows]
        first = edges[basket] if full is None else 0
        target = (labels[rows] - first)[:, None]
        cos_t = cos.gather(1, target).squeeze(1)
        negatives = cos.scatter(1, target, -math.inf)
        parts = _negatives(negatives, edges, basket, mining)
        lse = torch.logsumexp(scale * torch.cat(parts, dim=1), dim=1)
        theta = torch.arccos(cos_t.clamp(-1 + 1e-7, 1 - 1e-7))
        losses.append(F.softplus(lse - scale * torch.cos(theta + margin)))
    return torch.cat(losses).mean()


def _negatives(cos: Tensor, edges: list[int], basket: int, mining: Rule) -> list[Tensor]:
    """Blocks of cosines whose columns are a row's negatives; -inf marks what is left out."""
    if isinstance(mining, (All, Own)):
        return [cos]
    parts = []
    for other in range(len(edges) - 1):
        block = cos[:, edges[other] : edges[other + 1]]
        if other == basket:
            parts.append(block)
        elif isinstance(mining, Below) and isinstance(mining.guard, Absolute):
            parts.append(torch.where(block <= mining.guard.t, block, -math.inf))
        elif isinstance(mining, TopK) and mining.guard is None:
            listed = min(mining.k + mining.skip, block.shape[1])
            parts.append(block.topk(listed, dim=1).values[:, mining.skip :])
        else:
            raise ValueError(
                "mining: expected All, Own, Below with Absolute, or TopK without a guard in the eager baseline, got "
                f"{mining}"
            )
    return parts
