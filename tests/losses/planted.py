"""A head with planted centres and a batch for it: embeddings near their centre, copies and ties across baskets."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

import basket_softmax as bs
from bbs_kernels import reference
from cpu.problem import make

SIZES = {"a": 31, "b": 17, "c": 1, "d": 48}
F32_MAX = torch.finfo(torch.float32).max


class Batch(NamedTuple):
    """x [B, D] requires grad; labels [B]."""

    x: Tensor
    labels: Tensor

    def again(self) -> Batch:
        return Batch(self.x.detach().clone().requires_grad_(), self.labels)


def planted(
    mining: Any = None, dtype: torch.dtype = torch.float32, seed: int = 0, **options: Any
) -> tuple[bs.BasketSoftmaxLoss, Batch]:
    """16 % of the rows are ignored, the norms lie two decades apart."""
    problem = make(
        rows=37,
        depth=24,
        sizes=tuple(SIZES.values()),
        spread=0.3,
        noise=1.0,
        ignored=0.16,
        seed=seed,
        dtype=dtype,
    )
    rule = bs.TopK(5, 1) if mining is None else mining
    head = bs.BasketSoftmaxLoss(SIZES, 24, mining=rule, dtype=dtype, **options)
    head.load_full_weight(problem.w)
    return head, Batch(problem.x.requires_grad_(), problem.labels)


def exact(head: bs.BasketSoftmaxLoss, batch: Batch, **more: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, dX and dW of the fp64 reference with the head's settings; `more` overrides them."""
    x = batch.x.detach().double().requires_grad_()
    w = head.weight.detach().to(batch.x.dtype).double().requires_grad_()
    ema = head._buffers.get("ema")
    arguments = {
        "margin": head.margin, "scale": head.scale, "mining": head.mining, "aliases": head.aliases,
        "reduction": head.reduction, "ignore_index": head.ignore_index, "ema": None if ema is None else ema.double(),
    }  # fmt: skip
    arguments.update(more)
    loss = reference.basket_softmax(x, w, batch.labels, head.baskets.offsets, norm_limit=F32_MAX, **arguments)
    dx, dw = torch.autograd.grad(loss.sum(), (x, w))
    return loss.detach(), dx, dw


def eager(head: bs.BasketSoftmaxLoss, batch: Batch, **more: Any) -> tuple[Tensor, Tensor]:
    """dX and dW of the dense formula in the batch's own precision."""
    x, w = batch.x.detach().clone().requires_grad_(), head.weight.detach().clone().requires_grad_()
    arguments = {
        "margin": head.margin, "scale": head.scale, "mining": head.mining, "aliases": head.aliases,
        "reduction": head.reduction, "ignore_index": head.ignore_index, "ema": head._buffers.get("ema"),
    }  # fmt: skip
    arguments.update(more)
    loss = reference.basket_softmax(x, w, batch.labels, head.baskets.offsets, **arguments)
    return torch.autograd.grad(loss.sum(), (x, w))
