"""PartialFC_V2 over several ranks: insightface's ranges of classes, and the loss over the batches of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bbs_kernels import class_parallel, functional
from bbs_kernels.rules import Own
from bbs_kernels.sharding import Sharding

from ...losses.replicated import world_size


class ClassRanges(Sharding):
    """Rank r of n owns C // n classes in a row, one more on the first C % n ranks. (`Sharding` itself cuts as
    torch.chunk does, ceil(C / n) each.)"""

    def __init__(self, num_classes: int, world: int) -> None:
        super().__init__((num_classes,), world, "contiguous")

    def ranges(self, rank: int) -> tuple[tuple[int, int], ...]:
        super().ranges(rank)  # for its error
        each, more = divmod(self.num_classes, self.world)
        start = rank * each + min(rank, more)
        return ((start, start + each + (rank < more)),)

    def to_local(self, index: int) -> tuple[int, int]:
        super().to_local(index)  # for its error
        each, more = divmod(self.num_classes, self.world)
        wide = more * (each + 1)  # classes of the ranks that own one more
        rank = index // (each + 1) if index < wide else more + (index - wide) // each
        return rank, index - self.ranges(rank)[0][0]


class ClassParallel:
    """A process group and this rank's classes.

    Attributes:
        ranks, shard: the group and the part of the classes.
    """

    def __init__(self, num_classes: int, group: Any) -> None:
        self.ranks = class_parallel.Ranks(group)
        self.shard = class_parallel.ClassShard(ClassRanges(num_classes, self.ranks.world), self.ranks.rank)


@torch.compiler.disable  # the sizes of messages are read on the host
def global_losses(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    parallel: ClassParallel,
    *,
    margin: Callable[[Tensor], Tensor],
    scale: float,
    ignore_index: int,
    sample: Callable[[Tensor], Tensor] | None,
    common: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """(losses, valid), each [B], the rows of all ranks, the same bits on every rank.

    The gradient of `x` is that of the global mean times the number of ranks: DDP divides by it. That of `w` is the
    plain one of this rank's classes. insightface has the same convention (its all-gather multiplies in backward).

    Args:
        x: [b, D] this rank's embeddings; w: [num_local, D] its centres; labels: [b] global classes or `ignore_index`.
        margin: psi = margin(cos_t).
        sample: from labels [B], rows of `w` or -1, to the ascending rows that take part; None: all.
        common: what every rank must have alike, by name.

    Raises:
        RuntimeError: `common` differs between ranks.
    """
    ranks, shard = parallel.ranks, parallel.shard
    batch = class_parallel.gather_batch(
        x, labels, shard, ranks, ignore_index=ignore_index, equal_batches=False, common=common
    )
    rows = class_parallel.cos_lse(
        x, w, batch, shard, ranks, scale=scale, mining=Own(), sample=sample, grad_factor=float(ranks.world)
    )
    return functional.row_losses(rows.lse, margin(rows.cos_t), scale=scale), batch.valid


def default_group() -> Any:
    """The default process group if it has several ranks, else None."""
    return dist.group.WORLD if world_size() > 1 else None
