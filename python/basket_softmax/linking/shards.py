"""What the linker needs of a head whose classes are spread over ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from .protocol import LinkedHead, Placement


def known_everywhere(loss: LinkedHead) -> Tensor:
    """[C] int64: the head's aliases of all classes, -1 where it has none; under a process group on every rank."""
    if loss.aliases is None:
        return torch.full((loss.num_classes,), -1, device=loss.weight.device)
    return loss.aliases.clone() if loss.placement is None else loss.placement.full_rows(loss.aliases)


def gathered(rows: Tensor, parallel: Placement | None) -> Tensor | None:
    """The rows of all classes, [C, …] on the CPU of rank 0, None on the others, which hold one shard more meanwhile."""
    if parallel is None:
        return rows.cpu()
    ranks, sharding = parallel.ranks, parallel.shard.sharding
    full = (
        torch.empty((sharding.num_classes, *rows.shape[1:]), dtype=rows.dtype, device="cpu")
        if ranks.rank == 0
        else None
    )
    for source in range(ranks.world):
        part = rows if source == ranks.rank else rows.new_empty((sharding.num_local(source), *rows.shape[1:]))
        part = ranks.broadcast(part.contiguous(), source)
        if full is not None:
            for (start, stop), at in zip(
                sharding.ranges(source), sharding.local_offsets(source), strict=False
            ):
                full[start:stop] = part[at : at + stop - start]
    return full
