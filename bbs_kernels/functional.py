"""`cos_lse`, the differentiable core: log-sum-exp over the negatives, target cosine, mined classes.

Checks the arguments, resolves autocast and the `Ema` guard, and calls the op. `margin_softmax` is the same with the
losses of the rows made in the kernel, for margins of the combined family. Loss of a row from any other margin and
reduction act on [B] numbers and are here too, so that the module, the functional form and the drop-ins share them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .margins import FamilyArguments, FamilyCodes, family_arguments, family_codes
from .ops.call import DEFAULT_WORKSPACE_BYTES
from .ops.load import OPS
from .ops.prepare import DEFAULT_STASH_BYTES, prepare
from .rules import Rule
from .validate import CORE_NAMES, OperandNames, check_sample_weight

REDUCTIONS = ("mean", "sum", "none")


def cos_lse(
    x: Tensor,
    w: Tensor,
    labels: Tensor,
    offsets: Tensor,
    *,
    scale: float,
    mining: Rule,
    aliases: Tensor | None = None,
    ignore_index: int = -1,
    ema: Tensor | None = None,
    training: bool = False,
    class_index: Tensor | None = None,
    stash_bytes: int = DEFAULT_STASH_BYTES,
    row_basket: Tensor | None = None,
    row_alias: Tensor | None = None,
    row_guard: Tensor | None = None,
    mined_in_lse: bool = True,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    subcenters: int = 1,
    names: OperandNames = CORE_NAMES,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-sum-exp over the negatives of each row, its target cosine, and what was mined.

    c_ij = <x_i, w_j> / (|x_i| |w_j|) is never held as a matrix. N_i is every other class of the row's own
    basket and what `mining` admits of the other baskets, less classes of the row's alias.

    Args:
        x: [B, D] embeddings, fp64, fp32, fp16 or bf16; cast as `F.linear` would under autocast.
        w: [C, D] class centres, same dtype as `x`, or fp32 with 16-bit `x` (then rounded to x's dtype, and
            the gradient is fp32). Any strides: `v.t()` of a [D, C] parameter is not copied.
        labels: [B] int64 global class indices, or `ignore_index`.
        offsets: [K+1] int64 on the CPU: basket b owns the classes offsets[b] ... offsets[b+1]-1.
        scale: s, above 0 and at most 1e6.
        mining: `All()`, `Own()`, `Below(guard)` or `TopK(k, skip, guard)`.
        aliases: [C] int64; classes with the same non-negative alias are known to be one identity.
        ignore_index: label of rows that take no part.
        ema: [K] running means of the target cosine, for an `Ema` guard; updated in place when `training`.
        training: whether to update `ema` from this batch before it is used.
        class_index: [S] int64, strictly ascending: only these classes take part (Partial FC); the labels
            must be among them. The gradient of `w` is then a sparse tensor with S rows.
        stash_bytes: CPU only: cosines kept from forward to backward, at most this many bytes; less memory
            costs a recompute, never another result.
        row_basket: [B] int64, the basket of each row, -1 for an ignored one. With it `w` is a shard of the classes,
            `offsets` its baskets, and a negative label says that the row's class is elsewhere: no target here
            (cos_t = 0), all classes of its basket are negatives. Made for `class_parallel`.
        row_alias: [B] int64, alias of the row's class, -1 for none; `aliases[label]` when None.
        row_guard: [B] guards in place of what the rule's own guard gives, dtype of `lse`.
        mined_in_lse: False: the mined classes are listed and lse is of the own basket alone.
        workspace_bytes: CUDA only: how much the backward holds at a time of probabilities and normalised centres,
            in runs of 128 classes each at least, so that a smaller value than one needs is exceeded; less memory
            costs launches, never another result but for the rounding of dX, which adds up the runs.
        subcenters: r, 1 to 16: `w` is [C*r, D], rows c*r ... c*r+r-1 are the sub-centres of class c. The cosine of a
            class is the largest of theirs; its gradient goes to that sub-centre, the first where they tie.
        names: what messages call `x` and `w`: the words of a caller who names them otherwise.

    Returns:
        lse [B]: log of sum over N_i of exp(s * c_ij); -inf where N_i is empty and at ignored rows.
        cos_t [B]: c of the row's own class; 0 at ignored rows.
        mined_idx [B, K, k] int64: global class indices in order of similarity, -1 padded; k = 0 unless TopK.
        mined_cos [B, K, k]: their cosines, 0 where padded.
        lse, cos_t and mined_cos are fp32 (fp64 for fp64 `x`); gradients flow through lse and cos_t.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, dtype or device.
        RuntimeError: a label out of range (on the CPU; on CUDA see `bbs_kernels.check`).

    Source: Meng et al., "Basket-based Softmax", arXiv 2201.09308; the negatives-only form is this library's.
    Sub-centres: Deng et al., "Sub-center ArcFace", ECCV 2020.
    """
    call = prepare(
        x, w, labels, offsets, scale=scale, mining=mining, aliases=aliases, ignore_index=ignore_index, ema=ema,
        training=training, class_index=class_index, stash_bytes=stash_bytes, row_basket=row_basket,
        row_alias=row_alias, row_guard=row_guard, mined_in_lse=mined_in_lse, workspace_bytes=workspace_bytes,
        subcenters=subcenters, names=names,
    )  # fmt: skip
    lse, cos_t, mined_idx, mined_cos, _ = call.forward(call.x, w)
    return lse, cos_t, call.classes_of(mined_idx), mined_cos


def margin_softmax(
    x: Tensor, w: Tensor, labels: Tensor, offsets: Tensor, *, margin: Any, **arguments: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses of the rows under a margin of the combined family, in the kernels that find their log-sum-exps.

    The values of `row_losses(lse, margin(cos_t), scale)` with `cos_lse`, up to rounding, without the launches.

    Args:
        x, w, labels, offsets, **arguments: as for `cos_lse`, but for those of a shard.
        margin: an `ArcFace`, `CosFace`, `CombinedMargin` or `SphereFace`; with a tensor for `scale`, m1, m2 and m3
            are read from there, as (scale, m1, m2, m3).

    Returns:
        losses [B]; cos_t, mined_idx and mined_cos as from `cos_lse`. Gradients flow through the losses only.

    Raises:
        TypeError: another margin, a subclass of the four included; else as `cos_lse`.
    """
    family = checked_family(margin, in_tensor=isinstance(arguments.get("scale"), Tensor))
    call = prepare(x, w, labels, offsets, **arguments)
    losses, _, _, core = call.forward_margin(call.x, w, family)
    return losses, core.cos_t, call.classes_of(core.mined_idx), core.mined_cos


def basket_of(labels: Tensor, offsets: Tensor) -> Tensor:
    """[B] int64: the basket that owns each label, 0 for a label below 0. A device gets the offsets once."""
    basket: Tensor = OPS.basket_of(labels, offsets)
    return basket


def first_class(basket: Tensor, offsets: Tensor) -> Tensor:
    """[B] int64: offsets[basket], for baskets 0 to K; in the same way."""
    first: Tensor = OPS.first_class(basket, offsets)
    return first


def row_losses(lse: Tensor, psi: Tensor, scale: float | Tensor) -> Tensor:
    """loss_i = softplus(lse_i - s * psi_i), [B]: minus the log softmax of the margin-adjusted target.

    From the negatives' log-sum-exp, so nothing cancels: log1p(exp(z)), with derivative sigmoid(z).
    """
    # Above the threshold softplus is the identity; the default of 20 drops e^-20 = 2e-9, which fp64 can see.
    return F.softplus(lse - scale * psi, threshold=40.0)


def checked_family(margin: Any, *, in_tensor: bool = False) -> FamilyArguments | FamilyCodes:
    """`family_arguments`, or `family_codes` where m1, m2 and m3 are in a tensor; a TypeError that says which margins
    have them."""
    family = family_codes(margin) if in_tensor else family_arguments(margin)
    if family is None:
        raise TypeError(
            f"margin: expected ArcFace, CosFace, CombinedMargin or SphereFace, got {margin!r}: take cos_lse and "
            "row_losses for others"
        )
    return family


def reduce_rows(
    losses: Tensor, valid: Tensor, sample_weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """Row losses to the loss.

    mean: sum of w_i * loss_i over sum of w_i, over the rows that are valid; 0, still attached to the graph,
    when the divisor is 0. sum: sum of w_i * loss_i. none: [B], w_i applied, 0 at rows that are not valid.

    Args:
        losses: [B].
        valid: [B] bool.
        sample_weight: [B] or None for w_i = 1.
        reduction: "mean", "sum" or "none".

    Raises:
        TypeError, ValueError: another `reduction`, or a `sample_weight` that is no tensor or of another shape.
    """
    check_reduction(reduction)
    check_sample_weight(sample_weight, tuple(losses.shape))
    weight = torch.ones_like(losses) if sample_weight is None else sample_weight
    weight = torch.where(valid, weight.to(losses.dtype), 0.0)
    weighted = torch.where(valid, losses, 0.0) * weight
    if reduction == "none":
        return weighted
    total = weighted.sum()
    if reduction == "sum":
        return total
    divisor = weight.sum()
    return torch.where(divisor == 0, total * 0.0, total / torch.where(divisor == 0, 1.0, divisor))


def check_reduction(reduction: str) -> str:
    """`reduction` itself, or a ValueError that lists what is expected."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {', '.join(map(repr, REDUCTIONS))}, got {reduction!r}")
    return reduction
