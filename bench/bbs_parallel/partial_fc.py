"""Partial FC as published and as insightface's PartialFC_V2 computes it, in plain torch: the peer of the benchmark.

Embeddings and labels of all ranks are gathered, each rank builds the B x C/P cosines of its (sampled) classes, and the
softmax is put together by an all-reduce of the rows' maxima, one of their sums and one of the targets' probabilities.
Backward sums the embeddings' gradients by one reduce per rank and multiplies them by P. CosFace margin.

Source: An et al., "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs by Partial
FC", CVPR 2022, sections 3.1 and 3.3; Deng et al., "ArcFace", CVPR 2019, section 3.2 (parallel acceleration).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

ELSEWHERE = -1
SMALLEST = 1e-30  # of a target's probability, before its logarithm
# torch 2.13 has a new name for it and warns at the old one.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def sample(targets: Tensor, classes: int, rate: float) -> Tensor:
    """[S] ascending: the positives among `targets` [B] (rows of the shard or ELSEWHERE) and others drawn uniformly, as
    many as make up `rate` of the shard; the positives alone where they are more."""
    positive = targets[targets != ELSEWHERE].unique()
    wanted = int(rate * classes)
    if len(positive) >= wanted:
        return positive
    score = torch.rand(classes)
    score[positive] = 2.0  # above every draw
    return score.topk(wanted).indices.sort().values


def partial_fc_loss(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    *,
    first: int,
    margin: float,
    scale: float,
    sample_rate: float,
    group: dist.ProcessGroup,
) -> Tensor:
    """The mean loss over the rows of all ranks, the same on each.

    Args:
        x: [b, D], as many rows on every rank; w: [C/P, D], the classes from `first` on; labels: [b] global classes.
    """
    every = _Gather.apply(x, group)
    targets = labels.new_empty(len(labels) * dist.get_world_size(group))
    _all_gather(targets, labels, group=group)
    targets = torch.where((targets >= first) & (targets < first + len(w)), targets - first, ELSEWHERE)
    if sample_rate < 1.0:
        chosen = sample(targets, len(w), sample_rate)
        w = w[chosen]
        targets = torch.where(targets == ELSEWHERE, ELSEWHERE, torch.searchsorted(chosen, targets))
    logits = (F.normalize(every) @ F.normalize(w).t()).clamp(-1.0, 1.0)
    here = (targets != ELSEWHERE).nonzero().flatten()
    with torch.no_grad():  # the margin is a constant for autograd, written into the logits
        logits[here, targets[here]] -= margin
    logits = logits * scale
    return _CrossEntropy.apply(logits, targets, here, group)


class _Gather(torch.autograd.Function):
    """[b, D] of every rank as [P b, D]; backward: P times the sum of all ranks' gradients of the own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        out = x.new_empty((dist.get_world_size(group) * len(x), x.shape[1]))
        _all_gather(out, x, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        rank, world = dist.get_rank(ctx.group), dist.get_world_size(ctx.group)
        parts = [part.contiguous() for part in grads[0].chunk(world)]
        works = [
            dist.reduce(part, group=ctx.group, group_dst=r, async_op=True) for r, part in enumerate(parts)
        ]
        for work in works:
            work.wait()
        return parts[rank] * world, None


class _CrossEntropy(torch.autograd.Function):
    """Mean cross entropy of rows whose classes are spread over the ranks; changes `logits` in place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, here: Tensor, group: dist.ProcessGroup) -> Tensor:
        largest = logits.max(dim=1, keepdim=True).values
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=group)
        share = logits.sub_(largest).exp_()
        total = share.sum(dim=1, keepdim=True)
        dist.all_reduce(total, group=group)
        share.div_(total)
        of_target = share.new_zeros(len(share))
        of_target[here] = share[here, targets[here]]
        dist.all_reduce(of_target, group=group)
        ctx.save_for_backward(share, targets, here)
        return -of_target.clamp_min(SMALLEST).log().mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        share, targets, here = ctx.saved_tensors
        share[here, targets[here]] -= 1.0
        return share.mul_(grads[0] / len(share)), None, None, None
