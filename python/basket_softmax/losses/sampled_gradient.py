"""The gradient of `weight` where only a sample of the classes took part: sparse, or dense for what needs that."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .replicated import is_sharded, running_ddp

if TYPE_CHECKING:
    from .protocols import LossSettings

DENSE = "give the head sparse_grad=False for a dense gradient, which is 0 outside the sample"
WHAT = "sample_rate below 1 makes the gradient of weight a sparse tensor"


class DenseGradient(torch.autograd.Function):
    """The same tensor; a sparse gradient (sampled rows) becomes dense on its way back."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        return w.view_as(w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].to_dense()


def weight_of_sample(loss: LossSettings) -> Tensor:
    """`loss.weight` with the gradient that was asked for, in a step for which a sample of the classes is drawn.

    Raises:
        RuntimeError: the gradient is sparse, and DistributedDataParallel would have to reduce it.
    """
    weight = loss.weight
    if loss.fused_step is not None or not (weight.requires_grad and torch.is_grad_enabled()):
        return weight
    if loss.sparse_grad is False:
        return DenseGradient.apply(weight)
    if not torch.compiler.is_compiling():
        if running_ddp(weight) is not None:
            raise RuntimeError(f"{WHAT}, which DistributedDataParallel cannot reduce: {DENSE}")
        if loss.sparse_grad is None and not loss.told_of_sparse:
            loss.told_of_sparse = True
            warnings.warn(
                f"{WHAT}, which clip_grad_norm_ and most optimisers refuse: {DENSE}, or train it with FusedSGD, "
                "which needs no gradient; sparse_grad=True says that it is meant to be sparse",
                stacklevel=5,
            )
    return weight


def refuse_sparse_in_fsdp(head: Any, weight: Any) -> None:
    """Raise RuntimeError when `weight`, about to become the head's, is what fully_shard puts there."""
    sparse = getattr(head, "sample_rate", 1.0) < 1.0 and head.sparse_grad is not False
    if sparse and is_sharded(weight):
        raise RuntimeError(f"{WHAT}, which FSDP cannot reduce: {DENSE}")
