"""ArcFace over chunks of classes in plain PyTorch: what one writes when B x C does not fit.

Each chunk is recomputed in backward (torch.utils.checkpoint), so one chunk of cosines is alive at a time.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .eager import product

CHUNK = 8192


def chunked_arcface(x: Tensor, w: Tensor, labels: Tensor, margin: float, scale: float) -> Tensor:
    """Mean loss; x [B, D], w [C, D], labels [B], margin in radians."""
    x_hat = F.normalize(x.to(w.dtype))
    parts = [
        checkpoint(_chunk_lse, x_hat, part, labels - i * CHUNK, scale, x.dtype, use_reentrant=False)
        # split, not slices: the backward of each slice would fill a whole C x D gradient.
        for i, part in enumerate(w.split(CHUNK))
    ]
    lse = torch.stack(parts, dim=1).logsumexp(dim=1)
    cos_t = (x_hat * F.normalize(w[labels])).sum(dim=1).clamp(-1 + 1e-7, 1 - 1e-7)
    return F.softplus(lse - scale * torch.cos(torch.arccos(cos_t) + margin)).mean()


def _chunk_lse(x_hat: Tensor, part: Tensor, local: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """[B] log-sum-exp over this chunk's classes without the targets."""
    cos = product(x_hat, F.normalize(part), dtype)
    target = local[:, None] == torch.arange(len(part), device=part.device)
    return (scale * cos.masked_fill(target, -math.inf)).logsumexp(dim=1)
