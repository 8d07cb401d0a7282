"""Appending rows to a parameter that is being trained: the same Parameter object, longer, state and all."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bbs_kernels.resharding import exchange
from bbs_kernels.sharding import Sharding


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


@torch.no_grad()
def grow_parameter(
    parameter: nn.Parameter, growth: Growth, rows: Tensor, optimizer: torch.optim.Optimizer | None
) -> None:
    """The parameter gets the new classes' `rows`, the optimiser's state zeros for them.

    Args:
        parameter: changed in place, so that optimisers and modules that hold it stay valid; its gradient is dropped.
        rows: new values, as many as `growth.new` has.
        optimizer: may be None; must hold the parameter otherwise. Tensors of its state with a row per class (momentum,
            moments, Adafactor's row variances) are extended, the rest (step counts) is kept.

    Raises:
        ValueError: the optimiser does not train this parameter.
    """
    if optimizer is not None:
        if not any(p is parameter for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(
                "optimizer: expected the one that trains this loss's weight, got one that does not hold it"
            )
        state = optimizer.state.get(parameter, {})
        names = sorted(
            key
            for key, value in state.items()
            if isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == len(parameter)
        )
        growth.same_everywhere(names)
        for key in names:
            state[key] = growth.extend(state[key])
    grown = growth.extend(parameter.data)
    grown[growth.new] = rows.to(grown)
    parameter.grad = None
    # A graph of an earlier step that is still alive keeps a gradient accumulator of the old shape, which the
    # parameter would use again. Passing through another dtype makes it forget that one.
    parameter.data = parameter.data.new_empty(0, dtype=torch.float16)
    parameter.data = grown
