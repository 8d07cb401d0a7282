"""Which classes are on this rank, and how rows of classes travel between ranks: the place of a head, not its loss."""

from __future__ import annotations

import copy
import zlib
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from bbs_kernels import class_parallel as core_parallel
from bbs_kernels.rules import Rule, check_listed
from bbs_kernels.sharding import Sharding
from bbs_kernels.validate import check_bool

from ..baskets import Baskets
from .fsdp import is_view
from .replicated import is_sharded, running_ddp

NOT_IN_DDP = (
    "a class-parallel head must not be wrapped in DistributedDataParallel, which would average the shards of different "
    "classes: wrap the backbone alone and call the head on its output; the head's gradients need no reduction. Where "
    "one module must hold both: name the head's parameters and buffers in its _ddp_params_and_buffers_to_ignore"
)
NOT_IN_FSDP = (
    "a class-parallel head must not be sharded by FSDP, its centres are shards already: apply fully_shard to the "
    "backbone alone and call the head on its output"
)


def can_compare(values: Any) -> bool:
    """Return whether `values` has numbers: a fake tensor, as tracing uses, has a shape alone."""
    return not isinstance(values, FakeTensor)


def tensor_as_text(values: Tensor) -> str:
    """Return a text that is the same for equal `values`; waits for the device."""
    if not can_compare(values):
        return ""
    numbers = values.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
    return f"{tuple(values.shape)} numbers of {values.dtype} with checksum {zlib.crc32(numbers.tobytes())}"


class ClassParallel:
    """Which classes this rank owns and whom it shares them with.

    Attributes:
        ranks, shard: the process group and this rank's part.
        grad_factor: of the embeddings' gradients.
        equal_batches: the promise that every rank brings equally many rows.
        aliases: a text that stands for those of all classes that this rank was given last.
        compared: with `equal_batches`, whether a step has compared since the classes or the aliases changed.
    """

    def __init__(
        self, baskets: Baskets, group: Any, kind: str, grad_average: bool, equal_batches: bool
    ) -> None:
        self.ranks = core_parallel.Ranks(group)
        self.shard = core_parallel.ClassShard(
            Sharding(baskets.sizes, self.ranks.world, kind), self.ranks.rank
        )
        self.grad_factor = float(self.ranks.world) if check_bool("grad_average", grad_average) else 1.0
        self.equal_batches = check_bool("equal_batches", equal_batches)
        self.aliases = ""
        self.compared = False

    def grown(self, baskets: Baskets) -> ClassParallel:
        """The same ranks and settings for other baskets."""
        twin = copy.copy(self)
        twin.compared = False
        twin.shard = core_parallel.ClassShard(
            Sharding(baskets.sizes, self.ranks.world, self.shard.sharding.kind), self.ranks.rank
        )
        return twin

    def check_listed(self, mining: Rule) -> None:
        """Raise ValueError, on every rank alike, when some shard would list more classes of a row than kernels hold."""
        for rank in range(self.ranks.world):
            check_listed(mining.offered(), [stop - start for start, stop in self.shard.sharding.ranges(rank)])

    def full_rows(self, own: Tensor) -> Tensor:
        """[C, …] on every rank, from every rank's rows."""
        return core_parallel.full_rows(own, self.shard, self.ranks)

    def own_aliases(self, aliases: Tensor | None) -> Tensor | None:
        """This rank's part of the aliases [C], which the next step compares with what the other ranks were given."""
        self.aliases, self.compared = "" if aliases is None else tensor_as_text(aliases), False
        return None if aliases is None else self.own_part(aliases)

    def own_part(self, full: Tensor) -> Tensor:
        """This rank's rows of [C, …]."""
        return core_parallel.own_part(full, self.shard)

    def chosen_rows(self, own: Tensor, classes: slice | Tensor) -> Tensor:
        """[n, …]: rows of chosen classes on every rank, each from the rank that owns it."""
        count = self.shard.num_classes
        if isinstance(classes, slice):
            classes = torch.arange(*classes.indices(count), device=own.device)
        elif bool(
            ((classes < -count) | (classes >= count)).any()
        ):  # on every rank alike, before anyone waits
            raise IndexError(f"classes: expected {-count} to {count - 1}, got an index out of that range")
        classes = torch.where(classes < 0, classes + count, classes)
        local = self.shard.local_labels(classes, self.shard.basket_of(classes))
        chosen = own.new_zeros((len(classes), *own.shape[1:]))
        if len(own):
            chosen = torch.where((local < 0)[:, None], chosen, own[local.clamp_min(0)])
        return self.ranks.all_reduce(chosen)


def refuse_fsdp(weight: Any) -> None:
    """Raise RuntimeError when `weight`, about to become a class-parallel head's, is what fully_shard puts there."""
    if is_sharded(weight):
        raise RuntimeError(NOT_IN_FSDP)


def refuse_wrappers(head: Any, shard: core_parallel.ClassShard, subcenters: int = 1) -> None:
    """Raise RuntimeError when a class-parallel head is inside DDP or FSDP, or its `weight` is no more the shard."""
    weight: Any = head.weight
    if running_ddp(weight) is not None:
        raise RuntimeError(NOT_IN_DDP)
    if is_view(head):
        raise RuntimeError(NOT_IN_FSDP)
    if weight.shape[0] != shard.num_local * subcenters:
        raise RuntimeError(
            f"weight: expected this rank's {shard.num_local * subcenters} rows, got {weight.shape[0]}: it was replaced "
            "since the head was made"
        )
