"""How tensors with a row per class become longer by the classes of a new basket, in one process or over ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ..sharding import Sharding
from .exchange import exchange


class Growth(NamedTuple):
    """How tensors with a row per class become longer.

    extend: [rows, …] → the same classes' rows and zeros for the new ones. Under a process group rows may change ranks.
    new: where the new classes lie in the longer tensor.
    first: which of the basket's classes `new` begins with.
    same_everywhere: raises on every rank when the ranks disagree about a list of names.
    """

    extend: Callable[[Tensor], Tensor]
    new: slice
    first: int
    same_everywhere: Callable[[list[str]], None]

    def of_centres(self, subcenters: int) -> Growth:
        """The same for tensors with `subcenters` adjacent rows per class."""
        if subcenters == 1:
            return self
        new = slice(self.new.start * subcenters, self.new.stop * subcenters)
        return self._replace(
            extend=lambda rows: self.extend(rows.unflatten(0, (-1, subcenters))).flatten(0, 1),
            new=new,
            first=self.first * subcenters,
        )


def growth_here(classes: int, size: int) -> Growth:
    """One process: `size` rows behind the `classes` there are."""

    def extend(rows: Tensor) -> Tensor:
        return torch.cat([rows, rows.new_zeros((size, *rows.shape[1:]))])

    return Growth(extend, slice(classes, classes + size), 0, lambda names: None)


def growth_of_shards(old: Sharding, new: Sharding, rank: int, group: dist.ProcessGroup) -> Growth:
    """One basket more over the ranks of `group`, all of which grow together."""

    def same_everywhere(names: list[str]) -> None:
        every: list[list[str]] = [[]] * new.world
        dist.all_gather_object(every, names, group=group)
        if any(found != names for found in every):
            raise RuntimeError(
                f"the optimiser's state differs between ranks: {every}; call add_basket between steps"
            )

    edges, (start, _) = new.local_offsets(rank), new.ranges(rank)[-1]
    return Growth(
        lambda rows: exchange(rows, old, new, rank, group),
        slice(edges[-2], edges[-1]),
        start - new.offsets[-2],
        same_everywhere,
    )
