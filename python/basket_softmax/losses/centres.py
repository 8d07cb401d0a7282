"""The centres of the classes of several datasets: a parameter, who owns which rows, what is known of identities.

Where the classes are (all here, or this rank's part of them) is the placement's affair; what is made of the centres is
the loss's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bbs_kernels.class_parallel import draw_rows, draw_shard
from bbs_kernels.resharding.growth import Growth, growth_here, growth_of_shards
from bbs_kernels.sharding import Sharding
from bbs_kernels.validate import check_is_tensor, check_subcenters_number, positive_int

from ..baskets import Baskets
from ..layout import layout_of, load_rows, note_layout
from .arguments import check_aliases, check_centres
from .fsdp import all_centres, refuse_part, write_centres
from .placement import NOT_IN_DDP, ClassParallel
from .protocols import FirstCentres
from .replicated import ReplicatedHead
from .resize_parameter import resize_parameter

_OLD_NAMES = {
    "_parallel": "placement",
    "_fused": "fused_step",
    "_margin_takes_context": "margin_takes_context",
}


class ClassCentres(ReplicatedHead):
    """Base of `BasketSoftmaxLoss`: its centres, without a loss. Arguments and attributes as there.

    placement: the ranks that share the classes; None: all classes are here.
    """

    _instead = ", or give it process_group=torch.distributed.group.WORLD and leave it outside"
    _per_basket: tuple[str, ...] = ()  # buffers with an entry for each basket

    weight: nn.Parameter
    aliases: Tensor | None

    def __init__(
        self,
        baskets: Baskets,
        embedding_size: int,
        subcenters: int,
        placement: ClassParallel | None,
        device: torch.device | str | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.baskets = baskets
        self.embedding_size = positive_int("embedding_size", embedding_size)
        self.subcenters = check_subcenters_number(subcenters)
        self.placement = placement
        rows = (self.num_classes if placement is None else placement.shard.num_local) * self.subcenters
        self.weight = nn.Parameter(torch.empty(rows, self.embedding_size, device=device, dtype=dtype))
        check_centres("dtype", self.weight.dtype)

    def draw_centres(self) -> None:
        """Draw `weight` from N(0, 0.01), on every rank its part of what one process draws."""
        if self.placement is None:
            nn.init.normal_(self.weight, std=0.01)
        else:
            draw_shard(self._by_class(self.weight.detach()), self.placement.shard, std=0.01)

    @property
    def num_classes(self) -> int:
        """C, the classes of all baskets together."""
        return self.baskets.num_classes

    def all_rows(self, call: str) -> Tensor:
        """Return the centres of all classes as [C, r*D], a view where all are here; every rank must call it.

        Raises:
            RuntimeError: FullyShardedDataParallel holds the head; `call` is the method that the message names.
        """
        if self.placement is None:
            return self._by_class(all_centres(self, call))
        return self.placement.full_rows(self._by_class(self.weight.detach()))

    def chosen_centres(self, classes: slice | Tensor, call: str) -> Tensor:
        """Return the centres of chosen classes, [n*r, D]; every rank must ask for the same ones."""
        if self.placement is None:
            chosen = self._by_class(all_centres(self, call))[classes]
        else:
            chosen = self.placement.chosen_rows(self._by_class(self.weight.detach()), classes)
        return chosen.reshape(-1, self.embedding_size)

    @torch.no_grad()
    def full_weight(self) -> Tensor:
        """A copy of all class centres, [C*subcenters, D]. Under a process group or fully_shard every rank calls it.

        Raises:
            RuntimeError: FullyShardedDataParallel holds the head, outside of its `summon_full_params`.
        """
        full = self.all_rows("full_weight").view(-1, self.embedding_size)
        return full.detach().clone() if self.placement is None else full

    @torch.no_grad()
    def load_full_weight(self, weight: Tensor) -> None:
        """Replace all class centres.

        Args:
            weight: [C*subcenters, D], any floating dtype and device; under a process group or fully_shard all classes
                too, of which the rank takes its own.

        Raises:
            ValueError: another shape.
            RuntimeError: FSDP would lose it: between a forward pass under fully_shard and its backward pass (call
                `reshard()` first), or under FullyShardedDataParallel, outside of its `summon_full_params`.
        """
        check_is_tensor("weight", weight)
        wanted = (self.num_classes * self.subcenters, self.embedding_size)
        if weight.shape != wanted:
            raise ValueError(f"weight: expected shape {wanted}, got {tuple(weight.shape)}")
        if self.placement is not None:
            self.weight.copy_(self.placement.own_part(self._by_class(weight)).view(-1, self.embedding_size))
        else:
            write_centres(self, weight)

    @torch.no_grad()
    def set_aliases(self, aliases: Tensor | None, *, in_place: bool = False) -> None:
        """Replace what is known about identities in a running head; centres, running means and optimisers stay.

        From the next forward on: a step whose forward has run ends its backward with the aliases that it began with.

        Args:
            aliases: [C] int64 of all classes, also under a process group, where every rank gives the same ones and
                keeps those of its own classes. Classes with the same non-negative alias are one identity. None: nothing
                is known.
            in_place: overwrite the aliases that are there, so that a step captured in a CUDA graph sees the new ones.
                Then call it after `backward` and before the next forward; between them backward raises RuntimeError.

        Raises:
            TypeError, ValueError: another dtype or shape, a head on the meta device, or `in_place` without aliases
                to overwrite; the old aliases are then still in force.
        """
        fresh = self._checked_aliases(aliases)
        if not in_place:
            self.aliases = fresh
        elif self.aliases is None or fresh is None:
            raise ValueError(
                "in_place: expected aliases, tensors [C], before and after, got None: make the head with "
                "aliases=torch.full((C,), -1), and give that for nothing known"
            )
        else:
            self.aliases.copy_(fresh)

    def grow(
        self, grown: Baskets, init: str | Tensor | FirstCentres, optimizer: torch.optim.Optimizer | None
    ) -> None:
        """Become the head of `grown`, which has one basket more; `init` and `optimizer` as for `add_basket`."""
        size = grown.sizes[-1]
        placement = None if self.placement is None else self.placement.grown(grown)
        growth = self.growth(size)
        of_centres = growth.of_centres(self.subcenters)
        fresh = self._first_centres(init, size * self.subcenters, of_centres)
        resize_parameter(self.weight, of_centres, fresh, optimizer)
        self.baskets, self.placement = grown, placement
        self._note_growth()
        if self.aliases is not None:
            self.aliases = growth.extend(self.aliases)
            self.aliases[growth.new] = -1

    def growth(self, size: int, call: str = "add_basket") -> Growth:
        """Return how tensors with a row per class become longer by `size` classes; `call` is for messages."""
        if self.placement is None:
            refuse_part(self, call, "add the basket first, then apply FSDP and make the optimizer")
            return growth_here(self.num_classes, size)
        old, ranks = self.placement.shard.sharding, self.placement.ranks
        return growth_of_shards(
            old, Sharding((*old.sizes, size), old.world, old.kind), ranks.rank, ranks.group
        )

    @torch.no_grad()
    def _first_centres(self, init: str | Tensor | FirstCentres, size: int, growth: Growth) -> Tensor:
        """The centres of this rank's classes of a new basket; `init` as for `BasketSoftmaxLoss.add_basket`.

        `size` and `growth` count centres, of which a class may have several; `init` is checked.
        """
        first, rows = growth.first, growth.new.stop - growth.new.start
        if isinstance(init, Tensor):
            return init.detach()[first : first + rows]
        drawn = self.weight.new_empty((rows, self.embedding_size))
        if self.placement is None:
            nn.init.normal_(drawn, std=0.01)
        else:
            draw_rows(drawn, [((first, first + rows), 0)], size, std=0.01)
        return init.rows(drawn) if isinstance(init, FirstCentres) else drawn

    def check_first_centres(self, init: str | Tensor | FirstCentres, size: int) -> None:
        """Raise ValueError unless `init` gives the first centres of a basket of `size` classes, see `add_basket`."""
        wanted = (size * self.subcenters, self.embedding_size)
        if isinstance(init, Tensor):
            if init.shape != wanted:
                raise ValueError(f"init: expected shape {wanted}, got {tuple(init.shape)}")
            return
        if not isinstance(init, FirstCentres) and init != "random":
            raise ValueError(f"init: expected 'random', a tensor [size, D] or a ClassMeans, got {init!r}")
        if isinstance(init, FirstCentres) and (init.size, init.num_classes) != (size, self.num_classes):
            raise ValueError(
                f"init: expected a ClassMeans of {size} classes beside {self.num_classes}, got one of {init.size} "
                f"beside {init.num_classes}"
            )

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> set[str]:
        # DDP asks every module that it wraps for this: the place to refuse before it overwrites the shards.
        if self.placement is None:
            raise AttributeError("_ddp_params_and_buffers_to_ignore")
        raise RuntimeError(NOT_IN_DDP)

    def _by_class(self, centres: Tensor) -> Tensor:
        """[C*r, D] as one row per class, [C, r*D]: what moves classes between ranks knows nothing of sub-centres."""
        return centres if self.subcenters == 1 else centres.reshape(-1, self.subcenters * self.embedding_size)

    def _checked_aliases(self, aliases: Tensor | None) -> Tensor | None:
        if aliases is None:
            return None if self.placement is None else self.placement.own_aliases(None)
        check_aliases(aliases, self.num_classes)
        if self.weight.is_meta:
            raise ValueError(
                "aliases came with centres on the meta device, where their values would be lost: call set_aliases() "
                "after to_empty()"
            )
        own = aliases if self.placement is None else self.placement.own_aliases(aliases)
        assert own is not None
        return own.detach().clone().to(self.weight.device)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        note_layout(destination, prefix, layout_of(self.baskets, self.placement))

    def _load_from_state_dict(self, *arguments: Any) -> None:
        layout = layout_of(self.baskets, self.placement)
        load_rows(self, super()._load_from_state_dict, arguments, layout, per_basket=self._per_basket)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ClassCentres:
        # .half(), .to(torch.bfloat16) and their like, also of a model that holds the head.
        check_centres("the dtype of the centres", fn(self.weight.detach()[:0]).dtype)
        return super()._apply(fn, recurse)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickles of whole heads that name their parts as they were called before.
        super().__setstate__({_OLD_NAMES.get(name, name): value for name, value in state.items()})
