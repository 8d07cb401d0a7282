"""Prototypes: a running mean of each class's unit embeddings, which finds the same identity in another basket.

Class centres are worse at it: those of an identity that was not found are pushed away from each other, embeddings
of its images are not. Under a process group a rank keeps the prototypes of the classes whose centres it keeps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bbs_kernels.normalize import ZERO_NORM


@torch.no_grad()
def update(prototypes: Tensor, embeddings: Tensor, rows: Tensor, momentum: float) -> None:
    """Move prototypes towards a batch, in place: n rows of a class weigh 1 - momentum^n, together as their mean.

    Nothing waits for the device.

    Args:
        prototypes: [R, D]; zero means never seen.
        embeddings: [B, D], any floating dtype. Rows without a direction (zero or not finite) are left out.
        rows: [B] int64 in [0, R); anything else is left out.
        momentum: share of the old value that one row leaves, in [0, 1).
    """
    if len(prototypes) == 0 or len(rows) == 0:
        return
    x = embeddings.detach().to(prototypes.dtype)
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    usable = (norm[:, 0] >= ZERO_NORM) & norm[:, 0].isfinite() & (rows >= 0) & (rows < len(prototypes))
    unit = torch.where(usable[:, None], x / norm, 0.0)
    sorted_rows, order = torch.where(usable, rows, len(prototypes)).sort(stable=True)
    # One segment per class of the batch. There are at most B; those left over, and the one of rows that are not
    # usable, add zero to row 0. So every prototype has one addend that counts, and its bits do not depend on the order.
    new = torch.ones_like(sorted_rows)
    new[1:] = (sorted_rows[1:] != sorted_rows[:-1]).long()
    segment = new.cumsum(0) - 1
    count = torch.zeros_like(segment).index_add_(0, segment, torch.ones_like(segment))
    sums = torch.segment_reduce(unit[order], "sum", lengths=count, unsafe=True, initial=0.0)
    target = torch.full_like(segment, len(prototypes)).scatter_(0, segment, sorted_rows)
    counts = (count > 0) & (target < len(prototypes))
    target = torch.where(counts, target, 0)
    n = count[:, None].to(sums.dtype)
    weight = 1.0 - torch.pow(torch.full_like(n, momentum), n)
    change = weight * (sums / n.clamp_min(1.0) - prototypes[target])
    prototypes.index_add_(0, target, torch.where(counts[:, None], change, 0.0))


def without_basket_mean(prototypes: Tensor, offsets: Tensor) -> Tensor:
    """Unit prototypes less the mean of their basket's, [C, D]: less what its camera, style or font adds to all of them.

    A class never seen stays zero and does not count in the mean; the only class of a basket becomes zero.

    Args:
        prototypes: [C, D]; offsets: [K + 1] int64.
    """
    norm = torch.linalg.vector_norm(prototypes, dim=1, keepdim=True)
    seen = norm > ZERO_NORM
    unit = torch.where(seen, prototypes / norm.clamp_min(ZERO_NORM), 0.0)
    parts = []
    for of_basket, known in zip(
        unit.split(offsets.diff().tolist()), seen.split(offsets.diff().tolist()), strict=True
    ):
        mean = of_basket.sum(0) / known.sum().clamp_min(1)
        parts.append(torch.where(known, of_basket - mean, 0.0))
    # What is left of a lone class is rounding, which has no direction.
    centred = torch.cat(parts)
    left = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    return torch.where(left > 1e-5, centred, 0.0)
