"""A head whose classes are spread over the ranks of a process group: its place among them, and its forward pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bbs_kernels import class_parallel as core_parallel
from bbs_kernels import functional as core
from bbs_kernels.margins.call import call_margin, row_norms, with_penalty
from bbs_kernels.ops.prepare import autocast
from bbs_kernels.rules import Rule, TopK, check_listed
from bbs_kernels.sharding import Sharding
from bbs_kernels.validate import check_operands

from ..baskets import Baskets
from ..functional import NAMES
from . import agreement
from .fsdp import is_view
from .replicated import is_sharded, overwritten_by_ddp, running_ddp
from .sampled_gradient import weight_of_sample
from .sampling import sample_classes
from .statistics import LastStep

if TYPE_CHECKING:
    from .basket import BasketSoftmaxLoss

NOT_IN_DDP = (
    "a class-parallel head must not be wrapped in DistributedDataParallel, which would average the shards of different "
    "classes: wrap the backbone alone and call the head on its output; the head's gradients need no reduction. Where "
    "one module must hold both: name the head's parameters and buffers in its _ddp_params_and_buffers_to_ignore"
)
BUFFERS_IN_DDP = (
    "DistributedDataParallel gave this class-parallel head the aliases of rank 0, which are those of other classes: "
    "name its buffers in _ddp_params_and_buffers_to_ignore beside its parameters, and make the head anew"
)
NOT_IN_FSDP = (
    "a class-parallel head must not be sharded by FSDP, its centres are shards already: apply fully_shard to the "
    "backbone alone and call the head on its output"
)


class ClassParallel:
    """Which classes this rank owns and whom it shares them with.

    Attributes:
        ranks, shard: the process group and this rank's part.
        grad_factor: of the embeddings' gradients.
        equal_batches: the promise that every rank brings equally many rows.
        aliases: a text that stands for those of all classes that this rank was given last.
    """

    def __init__(
        self, baskets: Baskets, group: Any, kind: str, grad_average: bool, equal_batches: bool
    ) -> None:
        self.ranks = core_parallel.Ranks(group)
        self.shard = core_parallel.ClassShard(
            Sharding(baskets.sizes, self.ranks.world, kind), self.ranks.rank
        )
        self.grad_factor = float(self.ranks.world) if grad_average else 1.0
        self.equal_batches = equal_batches
        self.aliases = ""
        self._compared = False

    def common(
        self, head: BasketSoftmaxLoss, embeddings: Any, sample_weight: Tensor | None
    ) -> dict[str, Any]:
        """What every rank must bring alike to a step, for `gather_batch` to compare. With `equal_batches` the first
        step alone compares, here."""
        if self.equal_batches and (self._compared or not agreement.can_compare(embeddings)):
            return {}
        common = agreement.of_head(head, embeddings, sample_weight)
        if self.equal_batches:
            self.ranks.compare(common, head.weight.device)
            self._compared = True
        return common

    def grown(self, baskets: Baskets) -> ClassParallel:
        """The same ranks and settings for other baskets."""
        twin = copy.copy(self)
        twin._compared = False
        twin.shard = core_parallel.ClassShard(
            Sharding(baskets.sizes, self.ranks.world, self.shard.sharding.kind), self.ranks.rank
        )
        return twin

    def checked(
        self,
        head: BasketSoftmaxLoss,
        embeddings: Tensor,
        labels: Tensor,
        basket: Tensor | int | str | None,
        sample_weight: Tensor | None = None,
        *,
        for_loss: bool,
    ) -> tuple[Tensor, Tensor, Exception | None]:
        """Embeddings, global labels, and what is wrong with them on this rank, for `row_counts` to raise on every rank.

        Args:
            for_loss: the embeddings go into the kernels, so that their dtype and device count; and with `equal_batches`
                there is no such exchange: a wrong label becomes a class that does not exist, which every rank finds in
                the labels of all, and anything else is raised here.
        """
        baskets, promised = head.baskets, for_loss and self.equal_batches
        to_global = baskets.global_or_none if promised else baskets.to_global
        try:
            labels = head._global_labels(embeddings, labels, basket, sample_weight, to_global)
            if for_loss:
                x = autocast(embeddings)
                check_operands(x, head.weight, labels, self.shard.offsets, NAMES)
        except (TypeError, ValueError, KeyError) as error:
            if promised:
                raise
            nothing = head.weight.detach()[:0]
            return nothing, torch.empty(0, dtype=torch.int64, device=nothing.device), error
        return embeddings, labels, None

    def check_listed(self, mining: Rule) -> None:
        """Raise ValueError, on every rank alike, when some shard would list more classes of a row than kernels hold."""
        if not isinstance(mining, TopK) or mining.k == 0:
            return
        offered = TopK(mining.k + mining.skip, 0)
        for rank in range(self.ranks.world):
            check_listed(offered, [stop - start for start, stop in self.shard.sharding.ranges(rank)])

    def full_rows(self, own: Tensor) -> Tensor:
        """[C, …] on every rank, from every rank's rows."""
        return core_parallel.full_rows(own, self.shard, self.ranks)

    def own_aliases(self, aliases: Tensor) -> Tensor:
        """This rank's part of the aliases [C], which the next step compares with what the other ranks were given."""
        self.aliases, self._compared = agreement.of_aliases(aliases), False
        return self.own_part(aliases)

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


@torch.compiler.disable  # the sizes of messages are read on the host
def parallel_loss(
    head: BasketSoftmaxLoss,
    parallel: ClassParallel,
    embeddings: Tensor,
    labels: Tensor,
    basket: Tensor | int | str | None,
    sample_weight: Tensor | None,
) -> tuple[Tensor, LastStep]:
    """`BasketSoftmaxLoss.forward` over the batches of all ranks, and what `stats` reports."""
    refuse_wrappers(head, parallel.shard, head.subcenters)
    if head.aliases is not None and overwritten_by_ddp(head.aliases):
        raise RuntimeError(BUFFERS_IN_DDP)
    ranks, shard = parallel.ranks, parallel.shard
    common = parallel.common(head, embeddings, sample_weight)
    embeddings, labels, problem = parallel.checked(
        head, embeddings, labels, basket, sample_weight, for_loss=True
    )
    batch = core_parallel.gather_batch(
        embeddings, labels, shard, ranks, ignore_index=head.ignore_index, equal_batches=parallel.equal_batches,
        common=common, problem=problem,
    )  # fmt: skip
    sample = _sampler(head, shard.num_local)
    weight = head.weight if sample is None else weight_of_sample(head)
    rows = core_parallel.cos_lse(
        embeddings, weight, batch, shard, ranks, scale=head.scale, mining=head.mining, aliases=head.aliases,
        ema=head._buffers.get("ema"), training=head.training, sample=sample,
        stash_bytes=head.stash_bytes, workspace_bytes=head.workspace_bytes, grad_factor=parallel.grad_factor,
        subcenters=head.subcenters, names=NAMES,
        step=None if head._fused is None else head._fused.step_in_backward(embeddings, head.weight),
    )  # fmt: skip
    with torch.autocast(embeddings.device.type, enabled=False):
        norms = None
        if head._margin_takes_context:
            own = row_norms(embeddings, labels != head.ignore_index, rows.cos_t.dtype)
            norms = core_parallel.all_rows(own, batch, ranks, parallel.grad_factor)
        psi = call_margin(
            head.margin, head._margin_takes_context, rows.cos_t, embeddings, batch.labels, batch.valid, head.training,
            norms=norms,
        )  # fmt: skip
        losses = core.row_losses(rows.lse, psi, head.scale)
        losses = with_penalty(losses, head.margin, norms, batch.labels, batch.valid, head.training)
    of_rows = None
    if sample_weight is not None:
        of_rows = core_parallel.all_rows(sample_weight.to(losses.dtype), batch, ranks, parallel.grad_factor)
    value = core.reduce_rows(losses, batch.valid, of_rows, head.reduction)
    if head.reduction == "none":
        value = core_parallel.own_rows(value, batch, ranks)
    own_lists = (rows.mined_idx, rows.mined_cos)
    return value, LastStep(
        head.mining, batch.labels, losses.detach(), rows.cos_t.detach(), *own_lists, rows.totals
    )


def _sampler(head: BasketSoftmaxLoss, classes: int) -> Callable[[Tensor], Tensor] | None:
    """Partial FC per rank: the batch's classes of this shard, and others of it up to the sample rate."""
    if head.sample_rate == 1.0 or not head.training:
        return None
    return lambda labels: sample_classes(labels, classes, head.sample_rate, -1)


def refuse_wrappers(head: nn.Module, shard: core_parallel.ClassShard, subcenters: int = 1) -> None:
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
