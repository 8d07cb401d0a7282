"""`basket_softmax`: the loss as a function, for those who keep the class centres themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bbs_kernels import functional as core
from bbs_kernels.mapped import lse as mapped_lse
from bbs_kernels.margins import family_codes
from bbs_kernels.margins.call import MarginContext, call_margin, row_norms, takes_context, with_penalty
from bbs_kernels.margins.negative_map import NOT_FUSED, NegativeMap, negatives_of
from bbs_kernels.recompute import called_as_before
from bbs_kernels.rules import Rule
from bbs_kernels.validate import OperandNames, class_indices

__all__ = ["basket_softmax"]

NAMES = OperandNames("embeddings", "weight")  # of the two operands, in messages


class RowResults(NamedTuple):
    """What one step knows about each row: losses, cos_t [B], mined_idx, mined_cos [B, K, k]."""

    losses: Tensor
    cos_t: Tensor
    mined_idx: Tensor
    mined_cos: Tensor


class Kernels(Protocol):
    """Where rows are computed: `bbs_kernels.functional`, or a `FusedSGD`, whose backward also moves the weight."""

    def cos_lse(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """lse, cos_t, mined_idx, mined_cos."""

    def margin_softmax(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """losses, cos_t, mined_idx, mined_cos; for margins of the combined family."""


def basket_softmax(
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    offsets: Tensor,
    *,
    margin: Callable[..., Any],
    scale: float,
    mining: Rule,
    aliases: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -1,
    sample_weight: Tensor | None = None,
    ema: Tensor | None = None,
    training: bool = False,
    subcenters: int = 1,
) -> Tensor:
    """Margin softmax over the row's own basket and the mined classes of the others.

    loss_i = log(1 + exp(lse_i - s * psi(c_t[i]))): minus the log softmax of the margin-adjusted target.

    Args:
        embeddings: [B, D] fp64, fp32, fp16 or bf16.
        weight: [C, D] class centres, same dtype, or fp32 with 16-bit embeddings; any strides.
        labels: [B] global class indices, any integer dtype, or `ignore_index`.
        offsets: [K+1] int64 on the CPU; basket b owns the classes offsets[b] ... offsets[b+1]-1.
        margin: psi = margin(cos_t) or margin(cos_t, ctx), see `bbs_kernels.MarginContext`.
        scale: s, above 0 and at most 1e6.
        mining: `All()`, `Own()`, `Below(guard)` or `TopK(k, skip, guard)`.
        aliases: [C] int64; classes with the same non-negative alias are known to be one identity.
        reduction: "mean" (over the weights of the rows not ignored), "sum" or "none" ([B]).
        ignore_index: label of rows that take no part.
        sample_weight: [B] weights of the rows.
        ema: [K] running means for an `Ema` guard (+inf: never seen); updated in place when `training`.
        training: passed on to the margin, and whether `ema` is updated.
        subcenters: r, 1 to 16: `weight` is [C*r, D], r adjacent rows for each class, whose cosine is the largest of
            theirs.

    Returns:
        A scalar, or [B] with reduction="none"; fp32 (fp64 for fp64 embeddings).

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, dtype or device.
        RuntimeError: a label out of range.

    Source: Meng et al., "Basket-based Softmax", arXiv 2201.09308 (the method); margins: see `ArcFace`,
    `CosFace`, `CombinedMargin`; sub-centres: Deng et al., "Sub-center ArcFace", ECCV 2020.
    """
    core.check_reduction(reduction)
    labels = class_indices(labels)
    rows = row_results(
        embeddings, weight, labels, offsets, margin=margin, scale=scale, mining=mining, aliases=aliases,
        ignore_index=ignore_index, ema=ema, training=training, subcenters=subcenters,
    )  # fmt: skip
    return core.reduce_rows(rows.losses, labels != ignore_index, sample_weight, reduction)


def row_results(
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    offsets: Tensor,
    *,
    margin: Callable[..., Any],
    scale: float | Tensor,
    ignore_index: int,
    training: bool,
    with_context: bool | None = None,
    kernels: Kernels = core,
    **core_arguments: Any,
) -> RowResults:
    """The rows before the reduction; `core_arguments` go to `kernels`. Gradients flow through the losses.

    scale: a number; or [4] fp64 on the CPU, the scale and m1, m2, m3 of a margin of the combined family.
    """
    core_arguments |= {"scale": scale, "ignore_index": ignore_index, "training": training, "names": NAMES}
    if family_codes(margin) is not None:
        return RowResults(
            *kernels.margin_softmax(embeddings, weight, labels, offsets, margin=margin, **core_arguments)
        )
    if with_context is None:
        with_context = takes_context(margin)
    operands = (embeddings, weight, labels, offsets)
    map_of = negatives_of(margin)
    if map_of is not None:
        if kernels is not core:
            raise ValueError(f"FusedSGD came with the margin {margin!r}, {NOT_FUSED}")

        def negatives(cos_t: Tensor) -> NegativeMap:
            valid = labels != ignore_index
            norms = row_norms(embeddings, valid, cos_t.dtype)
            return called_as_before(margin, map_of, cos_t, MarginContext(norms, labels, training, valid))

        found = mapped_lse.cos_lse(*operands, negatives=negatives, **core_arguments)
    else:
        found = kernels.cos_lse(*operands, **core_arguments)
    lse, cos_t, mined_idx, mined_cos = found
    valid = labels != ignore_index
    with torch.autocast(embeddings.device.type, enabled=False):
        norms = row_norms(embeddings, valid, cos_t.dtype) if with_context else None
        psi = call_margin(margin, with_context, cos_t, embeddings, labels, valid, training, norms)
        factor = scale[0] if isinstance(scale, Tensor) else scale
        losses = with_penalty(core.row_losses(lse, psi, factor), margin, norms, labels, valid, training)
    return RowResults(losses, cos_t, mined_idx, mined_cos)
