"""The global batch: every rank's rows, one after the other, and the two ways across it that autograd can follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..ops.placement import on_device
from .ranks import Ranks, RowCounts
from .shard import ClassShard


class Batch(NamedTuple):
    """counts: rows of each rank. wanted: some rank wants the gradient of its embeddings. labels [B], as given.

    basket [B]: basket of each row, -1 for an ignored one. valid [B] bool.
    """

    counts: tuple[int, ...]
    wanted: bool
    labels: Tensor
    basket: Tensor
    valid: Tensor

    def own(self, rank: int) -> slice:
        """Where the rows of `rank` lie."""
        first = sum(self.counts[:rank])
        return slice(first, first + self.counts[rank])


def gather_batch(
    x: Tensor, labels: Tensor, shard: ClassShard, ranks: Ranks, *, ignore_index: int, equal_batches: bool,
    common: Mapping[str, Any], problem: Exception | None = None,
) -> Batch:  # fmt: skip
    """Labels of all ranks. With `equal_batches`, a promise, nothing waits for the device, and nothing is compared.

    Args:
        common: what every rank must bring alike, by name (see `Ranks.row_counts`).
        problem: what is wrong with this rank's arguments, raised on every rank (see `Ranks.row_counts`); `x` and
            `labels` may then be anything on the right device.

    Raises:
        Exception: `problem` of some rank.
        RuntimeError: on every rank alike, when `common` differs between ranks, or a label on any rank is out of range
            (on the CPU; CUDA reports later).
    """
    rows, wanted = x.shape[0], torch.is_grad_enabled() and x.requires_grad
    promised = RowCounts((rows,) * ranks.world, wanted)
    counts = promised if equal_batches else ranks.row_counts(rows, wanted, x.device, problem, common=common)
    every = ranks.gather_rows(labels, counts.counts)
    valid = every != ignore_index
    batch = Batch(counts.counts, counts.wanted, every, torch.where(valid, shard.basket_of(every), -1), valid)
    if not on_device(every):
        _check_labels(batch, shard.num_classes, ignore_index)
    return batch


def _check_labels(batch: Batch, classes: int, ignore_index: int) -> None:
    wrong = batch.valid & ((batch.labels < 0) | (batch.labels >= classes))
    if not bool(wrong.any()):
        return
    at = int(wrong.nonzero()[0])
    rank = 0
    while at >= batch.counts[rank]:
        at -= batch.counts[rank]
        rank += 1
    raise RuntimeError(
        f"labels[{at}] of rank {rank}: expected 0 to {classes - 1} or ignore_index = {ignore_index}, got "
        f"{int(batch.labels[wrong][0])}"
    )


def all_rows(own: Tensor, batch: Batch, ranks: Ranks, factor: float = 1.0) -> Tensor:
    """[b, …] of every rank as [B, …] on every rank. What is made of it must be the same everywhere: then each rank
    knows the whole gradient, and its own rows' part, times `factor`, is its gradient."""
    return _AllRows.apply(own, batch, ranks, factor)


def own_rows(every: Tensor, batch: Batch, ranks: Ranks) -> Tensor:
    """The rank's own rows of [B, …], a tensor that all ranks hold alike; their gradients are gathered in backward."""
    return _OwnRows.apply(every, batch, ranks)


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, batch: Batch, ranks: Ranks, factor: float) -> Tensor:
        ctx.part, ctx.factor = batch.own(ranks.rank), factor
        return ranks.gather_rows(own.detach(), batch.counts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return grads[0][ctx.part] * ctx.factor, None, None, None


class _OwnRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, every: Tensor, batch: Batch, ranks: Ranks) -> Tensor:
        ctx.batch, ctx.ranks = batch, ranks
        return every[batch.own(ranks.rank)].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return ctx.ranks.gather_rows(grads[0], ctx.batch.counts), None, None
