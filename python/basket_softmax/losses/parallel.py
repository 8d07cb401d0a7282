"""The step of a head whose classes are spread over the ranks of a process group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bbs_kernels import class_parallel as core_parallel
from bbs_kernels import functional as core
from bbs_kernels.margins.call import call_margin, row_norms, with_penalty
from bbs_kernels.ops.prepare import autocast
from bbs_kernels.validate import check_floating, check_operands

from ..functional import NAMES
from .placement import ClassParallel, can_compare, refuse_wrappers
from .protocols import LossSettings
from .replicated import overwritten_by_ddp
from .sampled_gradient import weight_of_sample
from .sampling import sample_classes
from .statistics import LastStep

BUFFERS_IN_DDP = (
    "DistributedDataParallel gave this class-parallel head the aliases of rank 0, which are those of other classes: "
    "name its buffers in _ddp_params_and_buffers_to_ignore beside its parameters, and make the head anew"
)


def compared_before(parallel: ClassParallel, embeddings: Any) -> bool:
    """Return whether this step needs no exchange: its batches are promised to be equal, and an earlier one compared."""
    return parallel.equal_batches and (parallel.compared or not can_compare(embeddings))


def settings(
    parallel: ClassParallel, loss: LossSettings, embeddings: Any, sample_weight: Tensor | None
) -> dict[str, Any]:
    """Return what every rank must bring alike to a step; arguments as the user gave them."""
    fed = autocast(embeddings.new_empty(0)).dtype if isinstance(embeddings, Tensor) else None
    return {
        "baskets": loss.baskets.as_dict(),
        "embedding_size": loss.embedding_size,
        "subcenters": loss.subcenters,
        "shard": parallel.shard.sharding.kind,
        "dtype": loss.weight.dtype,
        "margin": _margin_as_value(loss.margin),
        "scale": loss.scale,
        "mining": loss.mining,
        "reduction": loss.reduction,
        "ignore_index": loss.ignore_index,
        "aliases": None if loss.aliases is None else parallel.aliases,
        "sample_rate": loss.sample_rate,
        "grad_average": parallel.grad_factor != 1.0,
        "equal_batches": parallel.equal_batches,
        "training": loss.training,
        "embeddings": fed,
        "sample_weight": None if sample_weight is None else "given",
        "optimizer": None if loss.fused_step is None else type(loss.fused_step).__name__,
    }


def _margin_as_value(margin: Callable[..., Any]) -> Any:
    """Return what tells margins apart in every process: numbers of this library's, the name of others."""
    kind = type(margin)
    if kind.__module__.startswith("bbs_kernels."):
        return margin
    return getattr(margin, "__qualname__", kind.__qualname__)


def checked(
    parallel: ClassParallel,
    loss: LossSettings,
    embeddings: Tensor,
    labels: Tensor,
    basket: Tensor | int | str | None,
    sample_weight: Tensor | None = None,
    *,
    for_loss: bool,
) -> tuple[Tensor, Tensor, Exception | None]:
    """Embeddings, global labels, and what is wrong with them on this rank, for `row_counts` to raise on every rank.

    Args:
        for_loss: the embeddings go into the kernels, so that their dtype and device count; and where `compared_before`
            there is no such exchange: a wrong label becomes a class that does not exist, which every rank finds in
            the labels of all, and anything else is raised here.
    """
    baskets, promised = loss.baskets, for_loss and compared_before(parallel, embeddings)
    to_global = baskets.global_or_none if promised else baskets.to_global
    try:
        labels = loss.global_labels(embeddings, labels, basket, sample_weight, to_global)
        if for_loss:
            x = autocast(embeddings)
            check_operands(x, loss.weight, labels, parallel.shard.offsets, NAMES)
        else:
            check_floating("embeddings", embeddings)
    except (TypeError, ValueError, KeyError) as error:
        if promised:
            raise
        nothing = loss.weight.detach()[:0]
        return nothing, torch.empty(0, dtype=torch.int64, device=nothing.device), error
    return embeddings, labels, None


@torch.compiler.disable  # the sizes of messages are read on the host
def parallel_loss(
    loss: LossSettings,
    parallel: ClassParallel,
    embeddings: Tensor,
    labels: Tensor,
    basket: Tensor | int | str | None,
    sample_weight: Tensor | None,
) -> tuple[Tensor, LastStep]:
    """`BasketSoftmaxLoss.forward` over the batches of all ranks, and what `stats` reports."""
    refuse_wrappers(loss, parallel.shard, loss.subcenters)
    if loss.aliases is not None and overwritten_by_ddp(loss.aliases):
        raise RuntimeError(BUFFERS_IN_DDP)
    ranks, shard = parallel.ranks, parallel.shard
    promised = compared_before(parallel, embeddings)
    alike = {} if promised else settings(parallel, loss, embeddings, sample_weight)
    embeddings, labels, problem = checked(
        parallel, loss, embeddings, labels, basket, sample_weight, for_loss=True
    )
    batch = core_parallel.gather_batch(
        embeddings, labels, shard, ranks, ignore_index=loss.ignore_index, equal_batches=promised,
        common=alike, problem=problem,
    )  # fmt: skip
    parallel.compared = True
    sample = _sampler(loss, shard.num_local)
    weight = loss.weight if sample is None else weight_of_sample(loss)
    rows = core_parallel.cos_lse(
        embeddings, weight, batch, shard, ranks, scale=loss.scale, mining=loss.mining, aliases=loss.aliases,
        ema=loss.running_means, training=loss.training, sample=sample,
        stash_bytes=loss.stash_bytes, workspace_bytes=loss.workspace_bytes, grad_factor=parallel.grad_factor,
        subcenters=loss.subcenters, names=NAMES,
        step=None if loss.fused_step is None else loss.fused_step.step_in_backward(embeddings, loss.weight),
    )  # fmt: skip
    with torch.autocast(embeddings.device.type, enabled=False):
        norms = None
        if loss.margin_takes_context:
            own = row_norms(embeddings, labels != loss.ignore_index, rows.cos_t.dtype)
            norms = core_parallel.all_rows(own, batch, ranks, parallel.grad_factor)
        psi = call_margin(
            loss.margin, loss.margin_takes_context, rows.cos_t, embeddings, batch.labels, batch.valid, loss.training,
            norms=norms,
        )  # fmt: skip
        losses = core.row_losses(rows.lse, psi, loss.scale)
        losses = with_penalty(losses, loss.margin, norms, batch.labels, batch.valid, loss.training)
    of_rows = None
    if sample_weight is not None:
        of_rows = core_parallel.all_rows(sample_weight.to(losses.dtype), batch, ranks, parallel.grad_factor)
    value = core.reduce_rows(losses, batch.valid, of_rows, loss.reduction)
    if loss.reduction == "none":
        value = core_parallel.own_rows(value, batch, ranks)
    own_lists = (rows.mined_idx, rows.mined_cos)
    return value, LastStep(
        loss.mining, batch.labels, losses.detach(), rows.cos_t.detach(), *own_lists, rows.totals
    )


def _sampler(loss: LossSettings, classes: int) -> Callable[[Tensor], Tensor] | None:
    """Partial FC per rank: the batch's classes of this shard, and others of it up to the sample rate."""
    if loss.sample_rate == 1.0 or not loss.training:
        return None
    return lambda labels: sample_classes(labels, classes, loss.sample_rate, -1)
