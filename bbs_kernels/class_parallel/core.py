"""`cos_lse` with the classes spread over ranks: every rank's kernel on the global batch and its own shard.

Forward: all-gather of the embeddings, the kernel, one merge (merge.py). Backward: the kernel with the global lse, then
a reduce-scatter of the partial gradients of the embeddings; the gradient of the shard is complete and stays here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..fused_sgd import step_on_centres
from ..ops.call import DEFAULT_WORKSPACE_BYTES, CoreCall, CoreOutputs, SgdSettings
from ..ops.layout import sampled_gradient
from ..ops.prepare import DEFAULT_STASH_BYTES, autocast, prepare
from ..rules import Rule
from ..validate import CORE_NAMES, OperandNames
from .aliases import mate_counts, row_aliases
from .guards import row_guards
from .merge import Found, merge
from .ranks import Ranks
from .rows import Batch
from .shard import ClassShard


class ParallelRows(NamedTuple):
    """lse, cos_t [B], differentiable, of the rows of all ranks; the same bits on every rank.

    mined_idx, mined_cos [b, K, k]: of the rank's own rows, global classes. totals [B, K + 1] fp64: how many classes of
    each basket were mined for a row, and the sum of their cosines.
    """

    lse: Tensor
    cos_t: Tensor
    mined_idx: Tensor
    mined_cos: Tensor
    totals: Tensor


def cos_lse(
    x: Tensor,
    w: Tensor,
    batch: Batch,
    shard: ClassShard,
    ranks: Ranks,
    *,
    scale: float,
    mining: Rule,
    aliases: Tensor | None = None,
    ema: Tensor | None = None,
    training: bool = False,
    sample: Callable[[Tensor], Tensor] | None = None,
    stash_bytes: int = DEFAULT_STASH_BYTES,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    grad_factor: float = 1.0,
    step: Callable[[], SgdSettings] | None = None,
    subcenters: int = 1,
    names: OperandNames = CORE_NAMES,
) -> ParallelRows:
    """`bbs_kernels.functional.cos_lse` of the global batch; every rank of the group must call it.

    Args:
        x: [b, D] the rank's own embeddings; w: [classes of the shard * subcenters, D].
        batch: from `gather_batch`.
        scale, mining, ema, training, stash_bytes, workspace_bytes, subcenters, names: as for `functional.cos_lse`;
            the same on every rank.
        aliases: [classes of the shard].
        sample: from labels [B], classes of the shard or -1, to the ascending classes that take part (Partial FC).
        grad_factor: what the gradient of `x` is multiplied by.
        step: when given, backward spends the gradient of `w` as one SGD step (see `FusedSGD`).
    """
    x = autocast(x, names.x)
    with torch.no_grad():
        every = ranks.gather_rows(x.detach(), batch.counts)
    local = shard.local_labels(batch.labels, batch.basket)
    class_index = None if sample is None else sample(local)
    alias = None if aliases is None else row_aliases(aliases, local, ranks)
    guard = row_guards(
        every, w, local, shard.offsets, mining, ema, batch, ranks, training=training, class_index=class_index,
        subcenters=subcenters,
    )  # fmt: skip
    k, skip = mining.k, mining.skip if mining.k > 0 else 0
    call = prepare(
        every, w, local, shard.offsets, scale=scale, mining=mining.offered(), aliases=aliases, stash_bytes=stash_bytes,
        class_index=class_index, row_basket=batch.basket, row_alias=alias, row_guard=guard, mined_in_lse=False,
        workspace_bytes=workspace_bytes, subcenters=subcenters, names=names,
    )  # fmt: skip
    mates = None
    if aliases is not None and alias is not None and skip > 0:
        mates = mate_counts(aliases, shard.offsets, alias, class_index)
    if batch.wanted and not x.requires_grad:
        x = x.detach().requires_grad_()  # this rank's part of the sum is wanted by others
    return ParallelRows(
        *_CosLse.apply(x, w, _Step(call, shard, batch, ranks, k, skip, mates, grad_factor, step))
    )


class _Step(NamedTuple):
    call: CoreCall
    shard: ClassShard
    batch: Batch
    ranks: Ranks
    k: int
    skip: int
    mates: Tensor | None
    grad_factor: float
    sgd: Callable[[], SgdSettings] | None


class _CosLse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, s: _Step) -> tuple[Tensor, ...]:
        lse, cos_t, idx, cos, stash = s.call.forward(s.call.x, w)
        merged = merge(
            Found(lse, cos_t, idx, cos, s.mates, s.call.classes_of(idx)), s.shard, s.batch, s.ranks,
            scale=float(s.call.scale), k=s.k, skip=s.skip,
        )  # fmt: skip
        # s.call has the aliases; saved as well, so that torch sees a change in place.
        ctx.save_for_backward(w, merged.lse, merged.cos_t, merged.kept, cos, stash, s.call.aliases)
        ctx.step, ctx.dtype = s, x.dtype
        ctx.mark_non_differentiable(merged.mined_idx, merged.mined_cos, merged.totals)
        ctx.set_materialize_grads(False)
        return merged.lse, merged.cos_t, merged.mined_idx, merged.mined_cos, merged.totals

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a class-parallel loss has no second derivative: call backward without create_graph=True"
            )
        w, lse, cos_t, kept, cos, stash, _ = ctx.saved_tensors
        s: _Step = ctx.step
        call, need_dx, need_dw = s.call, s.batch.wanted, ctx.needs_input_grad[1]
        grad_lse, grad_cos_t = (torch.zeros_like(lse) if grad is None else grad for grad in grads[:2])
        outputs = CoreOutputs(lse, cos_t, kept, cos, stash)
        dw = None
        if s.sgd is not None:
            dx = step_on_centres(call, s.sgd(), grad_lse, grad_cos_t, w, outputs, need_dx)
        else:
            dx, dw = call.backward(grad_lse, grad_cos_t, w.detach(), outputs, need_dx, need_dw)
            dw = sampled_gradient(dw, call.class_index, w, call.subcenters) if need_dw else None
        if need_dx:
            dx = (s.ranks.sum_own_rows(dx, s.batch.counts) * s.grad_factor).to(ctx.dtype)
        return dx if need_dx else None, dw, None
